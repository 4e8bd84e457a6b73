"""Training behind a report about a sample of the rows (gate.accept_sample): what can still be compared.

All rows are trained. The files are those that the sample was drawn from, by their digests: so the gate said.
Here the sample is drawn and prepared again, and the rows that will be fed at its places must have the ids and
labels that were checked. Nothing is said of the other rows but that they could be prepared.
"""

from typing import Any

from ftcheck.gate.ticket import Reason, Refusal, Refused, Ticket
from ftcheck.inputs.container import Inputs
from ftcheck.inputs.prepared import Prepared
from ftcheck.sampling.row_sample import RowSample
from ftcheck_trainers import dataset


def check(ticket: Ticket, sample: RowSample, inputs: Inputs, prepared: Prepared, rows: Any) -> None:
    """Raise `Refused` where `rows`, made of `prepared`, feed the sample otherwise than it was checked.

    `inputs` open the job with all its rows, and as `sampled` the inputs of the job as it was checked.
    """
    import numpy as np

    drawn: Prepared = inputs.get("sampled").get("prepared")
    if drawn.sample != sample or drawn.rows.numbers is None or len(prepared) != sample.of:
        now = "all rows" if drawn.sample is None else f"{drawn.sample} with ids {drawn.sample.ids}"
        _refuse(ticket, f"the sample was {sample} with ids {sample.ids} in the checks, is {now} now")
        return
    fed = np.isin(prepared.sequences[:, 0], drawn.rows.numbers).nonzero()[0]
    found = dataset.digest_of(rows.select(fed))
    if found != sample.ids:
        _refuse(ticket, f"ids and labels of the sample were {sample.ids} in the checks, are {found} now")


def _refuse(ticket: Ticket, message: str) -> None:
    reason = Reason("ids-changed", f"{message}; run the checks again")
    raise Refused(Refusal(ticket.job, (reason,)))
