"""What a person sees of a run: summaries, pages, pictures, cards."""
