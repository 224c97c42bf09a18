"""What a model sees, answers and costs.

The dicts name what a YAML may ask for; values are ``module:Class`` and are imported when used, so importing this room
imports no torch.
"""

SENSORS = ("depth",)  # what a model may read beside the image
LABEL_INPUTS = ("segmentation",)  # tasks whose labels it may read likewise, where they are known
TASKS = {
    "detection": "tasks.detection:Detection",
    "segmentation": "tasks.segmentation:Segmentation",
    "depth": "tasks.depth:Depth",
    "instances": "tasks.instances:Instances",
    "keypoints": "tasks.keypoints:Keypoints",
    "pickup": "tasks.pickup:Pickup",
}
MODELS = {
    "small": "tasks.nets.presets:small",
    "resnet50": "tasks.nets.presets:resnet50",
    "hrnet": "tasks.nets.hrnet:hrnet",
    "salscheider": "tasks.nets.salscheider:salscheider",
    "rcnn": "tasks.nets.rcnn:rcnn",
    "hourglass": "tasks.nets.hourglass:Hourglass",
    "mtinet": "tasks.nets.mtinet:mtinet",
}
WEIGHTINGS = {
    "equal": "tasks.weighting.fixed:Equal",
    "fixed": "tasks.weighting.fixed:Fixed",
    "kendall": "tasks.weighting.kendall:Kendall",
    "kgc": "tasks.weighting.kgc:Kgc",
    "kgc_plus": "tasks.weighting.kgc:kgc_plus",
    "kgc_mean": "tasks.weighting.kgc:kgc_mean",
    "auxnet": "tasks.weighting.auxnet:AuxNet",
    "log": "tasks.weighting.geometric:log",
    "gls": "tasks.weighting.geometric:gls",
    "dwa": "tasks.weighting.dwa:Dwa",
    "gradnorm": "tasks.weighting.gradnorm:GradNorm",
}
ADAPTERS = {
    "streets": "tasks.data.streets:Streets",
    "workbench": "tasks.data.workbench:Workbench",
    "engine_parts": "tasks.data.engine_parts:EngineParts",
    "camvid": "tasks.data.camvid:Camvid",
    "coco": "tasks.data.coco:Coco",
    "nuimages": "tasks.data.nuimages:NuImages",
    "a9": "tasks.data.a9:A9",
    "cityscapes": "tasks.data.cityscapes:Cityscapes",
    "nyuv2": "tasks.data.nyuv2:Nyuv2",
    "label_studio": "tasks.data.label_studio:LabelStudio",
}
