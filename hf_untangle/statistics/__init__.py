"""What neurons do on one corpus, as streaming sums over tokens."""

from hf_untangle.doors import open_door

open_door(__name__)
