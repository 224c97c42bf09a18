"""Which experiment: one YAML is one complete experiment. A package, so that it travels with the wheel."""
