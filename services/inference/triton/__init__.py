"""How versions run on a Triton server: how they are described to it, pushed, asked, healed and let go."""
