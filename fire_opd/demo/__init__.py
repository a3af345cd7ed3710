"""The embedded default: two tasks made in code, their teachers and a student trained in minutes on a CPU."""
