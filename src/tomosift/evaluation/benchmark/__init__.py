"""The benchmark: protocol x SNR x entry x label budget x seed, measured on simulated particles."""
