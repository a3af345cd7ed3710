"""The engines that run stages: each a child process that loads once, driven by the crew over a pipe."""
