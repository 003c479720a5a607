"""What `benchmarks/speed.py` and `benchmarks/peers.py` share: clocks, counts of operations, stages and peers."""
