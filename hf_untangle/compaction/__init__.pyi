"""The public names of this room, and where each is defined."""

from hf_untangle.compaction.compact import compact as compact
from hf_untangle.compaction.experts import cut_experts as cut_experts
from hf_untangle.compaction.folder_to_folder import compact_folder as compact_folder
from hf_untangle.compaction.folder_to_folder import remove_folder as remove_folder
from hf_untangle.compaction.hidden_size import cut_hidden_size as cut_hidden_size
from hf_untangle.compaction.vocabulary import SmallerVocabulary as SmallerVocabulary
from hf_untangle.compaction.vocabulary import cut_vocabulary as cut_vocabulary
from hf_untangle.ragged import enable_ragged_checkpoints as enable_ragged_checkpoints
