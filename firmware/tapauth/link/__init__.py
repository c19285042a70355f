"""The edge to the MQTT broker."""
