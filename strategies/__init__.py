"""What to label next. Pure: no Ray, no disk, no clock, no global generator.

``STRATEGIES`` names what a YAML may ask for; values are ``module:Class`` and are imported when used.
"""

STRATEGIES = {
    "random": "strategies.uniform:Random",
    "equal": "strategies.equal:Equal",
    "boxmask": "strategies.boxmask:BoxMask",
}
