"""What a model sees, answers and costs.

The dicts name what a YAML may ask for; values are ``module:Class`` and are imported when used, so importing this room
imports no torch.
"""

TASKS = {
    "detection": "tasks.detection:Detection",
    "segmentation": "tasks.segmentation:Segmentation",
}
MODELS = {
    "small": "tasks.nets.presets:small",
    "resnet50": "tasks.nets.presets:resnet50",
    "hrnet": "tasks.nets.hrnet:hrnet",
    "salscheider": "tasks.nets.salscheider:salscheider",
}
WEIGHTINGS = {
    "equal": "tasks.weighting:Equal",
    "fixed": "tasks.weighting:Fixed",
}
ADAPTERS = {
    "streets": "tasks.data.streets:Streets",
    "camvid": "tasks.data.camvid:Camvid",
    "coco": "tasks.data.coco:Coco",
    "nuimages": "tasks.data.nuimages:NuImages",
    "a9": "tasks.data.a9:A9",
}
