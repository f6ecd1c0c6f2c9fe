"""How each kind of method proposes changes: gradient steps, or an edit in closed form at growing strength."""

from hf_untangle.methods import job
from hf_untangle.methods.low_rank import projected_out
from hf_untangle.methods.method import Proposals
from hf_untangle.methods.repselect import filtered_gradient
from hf_untangle.methods.set_difference import zeroed_set_difference
from hf_untangle.methods.task_vector import minus_task_vector

PROPOSALS: dict[Proposals, job.Proposals] = {
    "descent": job.gradient_steps,
    "task vector": minus_task_vector,
    "set difference": zeroed_set_difference,
    "low rank": projected_out,
    "repselect": filtered_gradient,
}
"""What proposes the changes of each kind of method."""
