"""Opens Hugging Face models up and takes capabilities out of them."""
