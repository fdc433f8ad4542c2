"""The engines that run a network, one module each."""
