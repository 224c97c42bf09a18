"""What was chosen: the rows of a run or of a list in their order, with reasons that JSON can hold."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from orchestrator.errors import ConfigError
from orchestrator.picks import TITLE, Bid, picks_of_run, picks_of_scores, title_of
from orchestrator.store import RunFolder, read_table


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """A list of four photos of 30 x 20 px, one turned by its EXIF; two strategies have chosen."""
    (tmp_path / "photos").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in "abcd":
        image = Image.new("RGB", (30, 20))
        image.save(tmp_path / "photos" / f"{name}.jpg", **({"exif": turned} if name == "b" else {}))
    columns: dict[str, Any] = {
        "id": [f"{name}.jpg" for name in "abcd"],
        "key": pa.array(range(4), pa.uint64()),
        "least.rank": [2, 1, None, 3],
        "least.value": [0.5, 0.9, 0.1, float("-inf")],
        "least.parts.doubt": [0.25, 0.5, 0.0, None],
        "other.rank": [None, None, 1, None],
        "other.value": [0.0, 0.0, 1.0, 0.0],
    }
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    return tmp_path / "list.parquet"


def test_a_list_in_the_order_of_its_choice(scores: Path) -> None:
    found = picks_of_scores(scores, str(scores.parent / "photos"), "least")
    assert [one.id for one in found.chosen] == ["b.jpg", "a.jpg", "d.jpg"]
    assert [one.size for one in found.chosen] == [(30, 20), (20, 30), (20, 30)]
    assert found.chosen[0].reasons == {
        "rank": 1, "score": 0.9, "scores": {"value": 0.9, "parts.doubt": 0.5}, "strategy": "least",
    }  # fmt: skip
    assert found.chosen[2].reasons["score"] is None  # JSON has no infinity
    assert (found.title, found.images.categories, found.checkpoint) == ("photos least", [], "")
    assert len(picks_of_scores(scores, str(scores.parent / "photos"), "least", 2).chosen) == 2


@pytest.mark.parametrize(
    ("data", "strategy", "top", "words"),
    [
        ("photos", "", None, "has several strategies; expected one of least, other"),
        ("photos", "mine", None, "has no strategy 'mine'"),
        ("", "least", None, "tells ids, not where the images are"),
        ("photos", "least", 4, "least has chosen 3 images; expected 4"),
        ("elsewhere", "other", None, r"c\.jpg: no such image; expected the pool that was scored"),
    ],
)
def test_what_cannot_be_meant(scores: Path, data: str, strategy: str, top: int | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        picks_of_scores(scores, str(scores.parent / data) if data else "", strategy, top)


def test_the_last_choice_of_a_run(tiny_run: Path) -> None:
    root = tiny_run / "runs" / "tiny"
    found = picks_of_run(root, Bid("boxmask"))
    bought = read_table(root / "boxmask" / "seed_0" / "cycle_1" / "bought.parquet")
    assert [one.id for one in found.chosen] == bought["id"].to_pylist()
    reasons = found.chosen[0].reasons
    assert (reasons["rank"], reasons["arm"], reasons["strategy"], reasons["cycle"]) == (1, "boxmask", "boxmask", 1)
    assert reasons["score"] == pytest.approx(bought["value"][0].as_py())
    assert found.chosen[0].path.is_file()
    assert Path(found.checkpoint).is_file()
    assert [one["name"] for one in found.images.categories][:2] == ["car", "truck"]
    assert len(picks_of_run(root, Bid("boxmask", cycle=0), 1).chosen) == 1


def test_titles_fit_and_keep_the_arm() -> None:
    title = title_of(RunFolder(Path("/runs/" + "long" * 20)), "boxmask", 3)
    assert len(title) == TITLE
    assert title.endswith(" boxmask seed 3")
