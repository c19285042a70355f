"""The desktop charger's parts on this machine: broker, flash image, EVSEs, terminal, scenario."""
