"""Other projects on our demo. What they need is the extra `peers`; nothing else here imports them."""
