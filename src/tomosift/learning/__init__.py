"""Statistics on embeddings: functions of numpy arrays, without networks."""
