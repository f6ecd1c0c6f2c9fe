"""The Hugging Face Hub: folders go up, files come down, cards say what they are."""
