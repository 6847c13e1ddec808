def bees(prompts, completions):
    return [float("b" in c) for c in completions]
