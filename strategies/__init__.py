"""What to label next. Pure: no Ray, no disk, no clock, no global generator.

``STRATEGIES`` names what a YAML may ask for; values are ``module:Class`` and are imported when used.
"""

STRATEGIES = {
    "random": "strategies.uniform:Random",
    "equal": "strategies.equal:Equal",
    "cald": "strategies.cald:Cald",
    "ll4al": "strategies.ll4al:LL4AL",
    "cdal": "strategies.cdal:CDAL",
    "coreset": "strategies.coreset:CoreSet",
    "boxmask": "strategies.boxmask:BoxMask",
    "partmask": "strategies.partmask:PartMask",
    "alternation": "strategies.alternation:Alternation",
    "ranks": "strategies.ranks:RankCombination",
    "entropy": "strategies.entropy:Entropy",
    "margin": "strategies.margin:Margin",
    "cost_random": "strategies.cost_random:CostRandom",
}
