"""Speed, memory and accuracy, each against a named peer in the same run; results are committed as JSON."""
