"""The public names of this room, and where each is defined."""

from hf_untangle.hub.upload import push_folder as push_folder
