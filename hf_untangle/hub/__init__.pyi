"""The public names of this room, and where each is defined."""

from hf_untangle.hub.upload import push_folder as push_folder
from hf_untangle.hub.upload import pushed_files as pushed_files
from hf_untangle.models import load_encoder as load_encoder
