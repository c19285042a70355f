"""EVerest's MQTT APIs, version 1: as their server (standalone) or as their client (attached)."""
