"""Mini-batches: sessions to the steps of one epoch, in one of two ways.

`WholeSessionBatches`: whole sessions of similar length, each from its first click. Sessions stand
in the order of time, but for a few steps' worth that is mixed.
`SessionParallelBatches`: as in the paper (Hidasi et al., ICLR 2016, arXiv:1511.06939, section
3.1.1). Each of B rows walks through one session after another, one click in a step. A row that ends
its session takes the next waiting one; the last batches have fewer rows.

Either way an epoch contains every pair of consecutive clicks once. The plan of an epoch depends on
the lengths of the sessions alone.
"""
