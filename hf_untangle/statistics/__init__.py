"""What neurons do on one corpus, as streaming sums over tokens."""
