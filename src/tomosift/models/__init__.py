"""Networks: encoders and their registry, descriptors, recentering, decoders, generators and losses."""
