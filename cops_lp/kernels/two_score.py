"""Kernel of the two-score algorithm: one target, one control, exactly, without an LP solver.

Minimizes the convex piecewise-linear dual ``g(λ) = T_k(c + λ a) − λ b`` over λ ≥ 0. At any λ
the top-k mask M of ``c + λ a`` gives a line ``c·M + λ (a·M − b)`` that supports g from below.
A bracket [lo, hi] with a·M_lo < b ≤ a·M_hi always holds the minimum; the next λ is where the
two lines meet or, far from the end, where a secant of the slopes vanishes. The search ends when
a tie at the threshold spans b, or when no mask is left between the two; then weights that
differ between M_lo and M_hi are all tied, and a window over them, sorted by control score, hits
b with two fractional weights.

Weights that stay on the same side of the threshold over the whole bracket are decided and
leave the arrays (:func:`_prune`), so each step costs less than the one before.

Combined scores are double-double (106 bits): at a crossing two of them differ by less than
float64 can tell whenever λ|a| is large beside |c|.
"""

from __future__ import annotations

import numpy as np

from ._jit import compiled

__all__ = [
    "INFEASIBLE",
    "OPTIMAL",
    "STOPPED",
    "floor_excess",
    "gap_terms",
    "least_kept",
    "near_threshold",
    "sum_dd",
    "top_k",
    "two_score",
]

OPTIMAL = 0
INFEASIBLE = 1
STOPPED = 2

_FEW = 8  # weights in which two masks differ: close enough for tangents alone
_FIRST = np.int64(0)  # a plain 0 has a type of its own, for which callees are compiled once more
_MAX_STEPS = 10_000  # never met: each step takes at least one mask out of the bracket


# --- double-double arithmetic (Dekker 1971; Knuth's two-sum) -------------------------------


@compiled
def _two_sum(a, b):
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@compiled
def _two_prod(a, b):
    p = a * b
    t = 134217729.0 * a
    a_hi = t - (t - a)
    a_lo = a - a_hi
    t = 134217729.0 * b
    b_hi = t - (t - b)
    b_lo = b - b_hi
    return p, ((a_hi * b_hi - p) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo


@compiled
def _add(a_hi, a_lo, b_hi, b_lo):
    s, e = _two_sum(a_hi, b_hi)
    t, f = _two_sum(a_lo, b_lo)
    e += t
    u = s + e
    e = (e - (u - s)) + f
    v = u + e
    return v, e - (v - u)


@compiled
def _divide(a_hi, a_lo, b_hi, b_lo):
    """Quotient of two double-doubles; infinite for a divisor of 0."""
    if b_hi == 0.0:
        return np.inf, 0.0
    q = a_hi / b_hi
    if not np.isfinite(q):
        return q, 0.0
    p, e = _two_prod(q, b_hi)
    r_hi, r_lo = _add(a_hi, a_lo, -p, -e - q * b_lo)
    return _two_sum(q, (r_hi + r_lo) / b_hi)


@compiled
def _combine(c, a, lam, lam_lo):
    """C + (lam + lam_lo) a as a double-double."""
    p, e = _two_prod(lam, a)
    s, f = _two_sum(c, p)
    f += e + lam_lo * a
    hi = s + f
    return hi, f - (hi - s)


@compiled
def sum_dd(x):
    """Sum of a float64 array as a double-double; shape (n,), O(n)."""
    hi = lo = 0.0
    for i in range(len(x)):
        hi, lo = _add(hi, lo, x[i], 0.0)
    return hi, lo


@compiled
def _sum_where(x, flags):
    hi = lo = 0.0
    for i in range(len(x)):
        if flags[i]:
            hi, lo = _add(hi, lo, x[i], 0.0)
    return hi, lo


@compiled
def _surplus(x, flags, b_hi, b_lo):
    """Flagged sum of x less b, then the sum, both double-doubles."""
    s_hi, s_lo = _sum_where(x, flags)
    e_hi, e_lo = _add(s_hi, s_lo, -b_hi, -b_lo)
    return e_hi, e_lo, s_hi, s_lo


@compiled
def _size_where(x, flags):
    size = 0.0
    for i in range(len(x)):
        if flags[i]:
            size += abs(x[i])
    return size


@compiled
def _next_random(seed):
    """Xorshift (Marsaglia 2003); fixed seeds, so every run takes the same steps."""
    seed ^= seed << np.uint64(13)
    seed ^= seed >> np.uint64(7)
    return seed ^ (seed << np.uint64(17))


# --- selection -----------------------------------------------------------------------------


@compiled
def _kth_largest(work, k):
    """The k-th largest entry, 1 ≤ k ≤ n; `work` is reordered. Expected O(n) (Hoare 1961)."""
    left, right = 0, len(work) - 1
    target = len(work) - k
    seed = np.uint64(0x9E3779B97F4A7C15)
    while right > left:
        seed = _next_random(seed)
        span = np.uint64(right - left + 1)
        x = work[left + np.int64((seed >> np.uint64(33)) % span)]
        seed = _next_random(seed)
        y = work[left + np.int64((seed >> np.uint64(33)) % span)]
        z = work[(left + right) // 2]
        pivot = max(min(x, y), min(max(x, y), z))
        i, j = left, right
        while i <= j:
            while work[i] < pivot:
                i += 1
            while work[j] > pivot:
                j -= 1
            if i <= j:
                work[i], work[j] = work[j], work[i]
                i += 1
                j -= 1
        if target <= j:
            right = j
        elif target >= i:
            left = i
        else:
            break
    return work[target]


@compiled
def _select(x, k):
    """The k-th largest entry, 1 ≤ k ≤ n; x is left as it is.

    Two pivots from a sample bracket it (Floyd, Rivest 1975); what lies between is gathered
    without branches, which the processor would mispredict, and selected among.
    """
    n = len(x)
    if n < 1024:
        return _kth_largest(x.copy(), k)
    r = 256
    sample = np.empty(r)
    step = n / r
    for j in range(r):
        sample[j] = x[np.int64(j * step)]
    rank = k / step
    room = 3.0 * np.sqrt(rank * (1.0 - rank / r)) + 3.0
    upper, lower = np.inf, -np.inf
    if rank - room >= 1.0:
        upper = _kth_largest(sample, np.int64(rank - room))
    if rank + room < r:
        lower = _kth_largest(sample, np.int64(rank + room) + 1)
    between = np.empty(n)
    m = above = 0
    for i in range(n):
        y = x[i]
        above += y > upper
        between[m] = y
        m += (y >= lower) & (y <= upper)
    if above < k <= above + m:
        return _kth_largest(between[:m], k - above)
    return _kth_largest(x.copy(), k)


@compiled
def _threshold(hi, lo, k, side):
    """Find the k-th largest double-double; side[i] becomes 2 above, 1 tied with it, 0 below.

    Returns its two parts and the number above. 1 ≤ k ≤ n.
    """
    n = len(hi)
    mu_hi = _select(hi, k)
    above = ties = 0
    for i in range(n):
        more, same = hi[i] > mu_hi, hi[i] == mu_hi
        side[i] = 2 * more + same
        above += more
        ties += same
    low = np.empty(ties)
    m = 0
    for i in range(n):
        if side[i] == 1:
            low[m] = lo[i]
            m += 1
    mu_lo = low[0]
    if ties > 1:
        mu_lo = _kth_largest(low, k - above)
        for i in range(n):
            if side[i] == 1:
                if lo[i] > mu_lo:
                    side[i] = 2
                    above += 1
                elif lo[i] < mu_lo:
                    side[i] = 0
    return mu_hi, mu_lo, above


@compiled
def _tied(side):
    m = 0
    for i in range(len(side)):
        if side[i] == 1:
            m += 1
    out = np.empty(m, np.int64)
    m = 0
    for i in range(len(side)):
        if side[i] == 1:
            out[m] = i
            m += 1
    return out


@compiled
def _indices(n):
    """0 … n − 1; NumPy's takes as long to compile as a small kernel."""
    index = np.empty(n, np.int64)
    for i in range(n):
        index[i] = i
    return index


@compiled
def _order(x, ties):
    """Positions of the ties from the largest x to the smallest, equal ones by index.

    A merge sort; NumPy's own takes Numba four seconds to compile.
    """
    n = len(ties)
    order = _indices(n)
    falling = True
    for t in range(1, n):
        if x[ties[t]] > x[ties[t - 1]]:
            falling = False
            break
    if falling:
        return order
    other = np.empty(n, np.int64)
    width = 1
    while width < n:
        for start in range(0, n, 2 * width):
            i, middle = start, min(start + width, n)
            j, stop = middle, min(start + 2 * width, n)
            for t in range(start, stop):
                if j == stop or (i < middle and x[ties[order[i]]] >= x[ties[order[j]]]):
                    other[t] = order[i]
                    i += 1
                else:
                    other[t] = order[j]
                    j += 1
        order, other = other, order
        width *= 2
    return order


@compiled
def _choose_first(side, ties, by, sign, count, flags):
    """flags = above, plus the `count` of the ties with the largest sign · by. O(n)."""
    for i in range(len(side)):
        flags[i] = side[i] == 2
    if count == len(ties):
        for i in ties:
            flags[i] = 1
        return
    if count == 0:
        return
    keys = np.empty(len(ties))
    for t in range(len(ties)):
        keys[t] = sign * by[ties[t]]
    least = _select(keys, count)
    left = count
    for t in range(len(ties)):
        if keys[t] > least:
            flags[ties[t]] = 1
            left -= 1
    for t in range(len(ties)):
        if left == 0:
            break
        if keys[t] == least:
            flags[ties[t]] = 1
            left -= 1


@compiled
def top_k(c, k, flags):
    """Mark the k largest entries, ties to the lowest index; 1 ≤ k ≤ n. Returns the k-th."""
    n = len(c)
    mu = _select(c, k)
    left = k
    for i in range(n):
        flags[i] = c[i] > mu
        if flags[i]:
            left -= 1
    for i in range(n):
        if left == 0:
            break
        if c[i] == mu:
            flags[i] = 1
            left -= 1
    return mu


# --- the algorithm -------------------------------------------------------------------------


@compiled
def _shares(small, a_other, difference):
    """Round a share ≤ 1/2 and its complement so that the control sum suffers least.

    Either the small share is exact to its last bit, or the two add up to 1 exactly: the error
    in the sum is 2^-54 of the other's a, or of the difference of the two.
    """
    small = min(0.5, max(0.0, small))
    other = 1.0 - small
    if difference <= abs(a_other):
        small = 1.0 - other
    return small, other


@compiled
def _window(a, ties, order, count, over_hi, over_lo, flags):
    """Move a window over the tied weights until its control sum meets the floor.

    `order` sorts the ties by a, largest first, then by index. flags holds what is kept beside
    the ties and the first `count` of them, the window with the largest sum; `over` ≥ 0 is by
    how much that exceeds the floor. Moved by one place the window loses a[leaves] − a[enters].
    Where the next move would fall short, a mixture of the two windows meets the floor.

    Sets flags of the ties; returns (p, q, x_p, x_q), p leaving and q entering, -1 when whole.
    Which of several equal weights it keeps is settled later (engine/ties.py).
    """
    m = len(ties)
    start = 0
    p = q = np.int64(-1)
    x_p = x_q = 0.0
    while start + count < m and over_hi > 0.0:
        leaves, enters = ties[order[start]], ties[order[start + count]]
        d_hi, d_lo = _two_sum(a[leaves], -a[enters])
        next_hi, next_lo = _add(over_hi, over_lo, -d_hi, -d_lo)
        if next_hi < 0.0:
            x_q, _ = _divide(over_hi, over_lo, d_hi, d_lo)
            if x_q <= 0.5:
                x_q, x_p = _shares(x_q, a[leaves], d_hi)
            else:
                x_p, _ = _divide(-next_hi, -next_lo, d_hi, d_lo)
                x_p, x_q = _shares(x_p, a[enters], d_hi)
            if x_q > 0.0:
                p, q = leaves, enters
            break
        flags[leaves] = 0
        flags[enters] = 1
        over_hi, over_lo = next_hi, next_lo
        start += 1
    if p >= 0:
        flags[p] = 0
        flags[q] = 0
    return p, q, x_p, x_q


@compiled
def _extremes(x, flags):
    """Least flagged and largest unflagged entry."""
    least, largest = np.inf, -np.inf
    for i in range(len(x)):
        y = x[i]
        if flags[i]:
            least = y if y < least else least
        else:
            largest = y if y > largest else largest
    return least, largest


@compiled
def _prune(u, v, lo_in, hi_in, u_cut, v_cut, margin, decided):
    """Find weights whose side is the same at every λ of the bracket.

    u and v are the combined scores at its ends (v = a where the upper end is infinite: then
    s(λ) = u + (λ − lo) v, a positive combination all the same), u_cut and v_cut their k-th
    largest, which M_lo and M_hi lie at or above. All weights of M_lo lie above the chord
    (u_cut, min v over M_lo) everywhere on the bracket, so at least k weights do: what is below
    it at both ends is never kept. Likewise with M_hi, and for the n − k weights outside.
    `margin` (relative) covers the rounding of u and v.

    decided[i]: 1 kept, 0 dropped, 2 open. Returns the number open.
    """
    in_v, out_v = _extremes(v, lo_in)
    in_u, out_u = _extremes(u, hi_in)
    n = len(u)
    for i in range(n):  # without branches, for vector instructions
        m_u, m_v = margin * abs(u[i]), margin * abs(v[i])
        u_low, u_high = u[i] - m_u, u[i] + m_u
        v_low, v_high = v[i] - m_v, v[i] + m_v
        drop = ((u_high < u_cut) & (v_high < in_v)) | ((u_high < in_u) & (v_high < v_cut))
        keep = ((u_low > u_cut) & (v_low > out_v)) | ((u_low > out_u) & (v_low > v_cut))
        decided[i] = 0 if drop else (1 if keep else 2)
    n_open = 0
    for i in range(n):
        n_open += decided[i] == 2
    return n_open


@compiled
def _exchange(x, lo_in, hi_in):
    """Sum of x over M_hi without M_lo less the sum over M_lo without M_hi, double-double."""
    hi = lo = 0.0
    for i in range(len(x)):
        if lo_in[i] != hi_in[i]:
            if hi_in[i]:
                hi, lo = _add(hi, lo, x[i], 0.0)
            else:
                hi, lo = _add(hi, lo, -x[i], 0.0)
    return hi, lo


@compiled
def _excess(a, new_in, hi_in, over, base):
    """By how much a mask's control sum exceeds the floor, a double-double.

    Two ways: what it exchanges with M_hi, so that what they share cancels exactly (`over`:
    M_hi's excess and the size of the terms it was summed from), or its own sum (`base`: the
    decided weights' sum less the floor, and that sum's size). The one with the smaller terms
    is the more exact, but a factor of 16 is not worth summing both: with 30 decades of range
    the other's rounding may exceed the floor.

    Returns the excess and the size of its terms.
    """
    e_hi = e_lo = exchanged = 0.0
    known = over[2] < np.inf  # before M_hi is known, only the mask's own sum
    if known:
        for i in range(len(a)):
            if new_in[i] != hi_in[i]:
                exchanged += abs(a[i])
                if new_in[i]:
                    e_hi, e_lo = _add(e_hi, e_lo, a[i], 0.0)
                else:
                    e_hi, e_lo = _add(e_hi, e_lo, -a[i], 0.0)
        if exchanged == 0.0 or exchanged + over[2] <= 16.0 * base[2]:
            e_hi, e_lo = _add(e_hi, e_lo, over[0], over[1])
            return e_hi, e_lo, exchanged + over[2]
    d_hi = d_lo = own = 0.0
    for i in range(len(a)):
        if new_in[i]:
            d_hi, d_lo = _add(d_hi, d_lo, a[i], 0.0)
            own += abs(a[i])
    if known and exchanged + over[2] <= own + base[2]:
        e_hi, e_lo = _add(e_hi, e_lo, over[0], over[1])
        return e_hi, e_lo, exchanged + over[2]
    d_hi, d_lo = _add(d_hi, d_lo, base[0], base[1])
    return d_hi, d_lo, own + base[2]


@compiled
def _random_crossing(c, a, lo_in, hi_in, seed):
    """Median of 15 random crossings of weights of M_lo alone with weights of M_hi alone.

    Every such pair crosses inside the bracket, so the median splits what is left whatever the
    range of the scores; tangents alone may take a step per factor of two.
    """
    n = len(c)
    outs = np.empty(n, np.int64)
    ins = np.empty(n, np.int64)
    n_out = n_in = 0
    for i in range(n):
        if lo_in[i] != hi_in[i]:
            if lo_in[i]:
                outs[n_out] = i
                n_out += 1
            else:
                ins[n_in] = i
                n_in += 1
    crossings = np.empty(15)
    for j in range(15):
        seed = _next_random(seed)
        p = outs[np.int64((seed >> np.uint64(33)) % np.uint64(n_out))]
        seed = _next_random(seed)
        q = ins[np.int64((seed >> np.uint64(33)) % np.uint64(n_in))]
        crossings[j] = (c[p] - c[q]) / (a[q] - a[p])
    return _kth_largest(crossings, len(crossings) // 2 + 1)


@compiled
def least_kept(c, a, lam, rest, flags):
    """Smallest double-double c + λ a among the flagged weights (at least one)."""
    least_hi, least_lo = np.inf, 0.0
    for i in range(len(c)):
        if flags[i]:
            s, t = _combine(c[i], a[i], lam, rest)
            if s < least_hi or (s == least_hi and t < least_lo):
                least_hi, least_lo = s, t
    return least_hi, least_lo


@compiled
def _end(x, ties_by, k, side, flags):
    """Mark the k largest x, where tied those with the largest `ties_by`, then by index.

    Returns the threshold, a double-double, and how many ties are left out.
    """
    n = len(x)
    low = np.empty(n)
    for i in range(n):
        low[i] = 0.0
    mu_hi, mu_lo, above = _threshold(x, low, k, side)
    ties = _tied(side)
    _choose_first(side, ties, ties_by, 1.0, k - above, flags)
    return mu_hi, mu_lo, len(ties) - (k - above)


@compiled
def _evaluate(c, a, lam, rest, k, hi_in, over, base, s):
    """Fill the combined scores s at a trial λ; find on which side of the minimum it is.

    Returns which (-1: λ is too small, 1: too large, 0: neither), a top-k mask there, that
    mask's excess as by :func:`_excess`, the threshold, how many of the ties it holds, and the
    ties. The mask is that of the ties' largest controls, for 1 of their smallest.
    """
    n = len(c)
    t = np.empty(n)
    side = np.empty(n, np.uint8)
    mask = np.empty(n, np.uint8)
    for i in range(n):
        s[i], t[i] = _combine(c[i], a[i], lam, rest)
    mu_hi, mu_lo, above = _threshold(s, t, k, side)
    ties = _tied(side)
    count = k - above
    where = 0
    _choose_first(side, ties, a, 1.0, count, mask)
    excess = _excess(a, mask, hi_in, over, base)
    if excess[0] < 0.0:
        where = -1
    else:
        least = np.empty(n, np.uint8)
        _choose_first(side, ties, a, -1.0, count, least)
        least_excess = _excess(a, least, hi_in, over, base)
        if least_excess[0] > 0.0:
            where, mask, excess = 1, least, least_excess
    return where, mask, excess, mu_hi, mu_lo, count, ties


@compiled
def two_score(c, a, k, b_hi, b_lo, slack, hints, flags, stop):
    """Solve max c·x over 1·x = k, a·x ≥ b, 0 ≤ x ≤ 1, exactly.

    Parameters
    ----------
    c, a : float64, shape (n,)
        Finite, |entries| at most about 1 (the caller scales by a power of two).
    k : int, 1 ≤ k < n
    b_hi, b_lo : float64
        The floor as a double-double.
    slack : float64, ≥ 0
        A floor above the attainable best by no more than this counts as the best.
    hints : float64, any shape (m,)
        Values of λ to try first; good ones save steps. Anything else does no harm.
    flags : uint8, shape (n,), filled
        1 where x = 1.
    stop : uint8, shape (1,)
        Looked at before each step: another thread sets it where there is no more time.

    Returns
    -------
    code : int
        OPTIMAL, INFEASIBLE or, with nothing else of use, STOPPED.
    lam, rest : float
        λ ≥ 0, a double-double.
    mu_hi, mu_lo : float
        The threshold, a double-double.
    p, q : int
        The fractional weights, or -1.
    x_p, x_q : float
        They add up to 1, exactly or up to 2^-54; see :func:`_shares`.
    steps : int
        How many λ were tried beyond 0 and infinity.
    b_hi, b_lo : float
        The floor used: the attainable best where the given one exceeded it within `slack`.

    Notes
    -----
    Each step is O(open weights). No mask is met twice, so it ends on any input, with or
    without ties. Which of several equal weights it keeps is arbitrary.
    """
    n = len(c)
    none = np.int64(-1)
    for i in range(n):
        flags[i] = 0
    steps = 0
    # λ is a double-double: between neighboring floats many weights may change places.
    # (low, high) is the bracket, (lam, rest) the trial.
    low, low_rest, high, high_rest = -1.0, 0.0, np.inf, 0.0
    lam = rest = 0.0
    base = (-b_hi, -b_lo, abs(b_hi))
    over = (0.0, 0.0, np.inf)  # by how much M_hi exceeds the floor, ≥ 0
    side = np.empty(n, np.uint8)
    new_in = np.empty(n, np.uint8)
    lo_in, hi_in = new_in, new_in
    u, v = c, a
    u_cut = v_cut = mu_hi = mu_lo = 0.0
    count = _FIRST
    ties = np.empty(0, np.int64)
    at_tie = False
    under = 0.0  # M_lo's excess, < 0
    moved_lo = False  # which end of the bracket the last step moved

    for hint in hints:
        if not (hint > 0.0 and hint > low and hint < high and hint < 1e290):
            continue
        steps += 1
        s = np.empty(n)
        where, new_in, new_over, mu_hi, mu_lo, count, ties = _evaluate(
            c, a, hint, 0.0, k, hi_in, over, base, s
        )
        if where < 0:
            lo_in, u, u_cut, low, under = new_in, s, mu_hi, hint, new_over[0]
        elif where > 0:
            hi_in, over, v, v_cut, high = new_in, new_over, s, mu_hi, hint
        else:
            at_tie = True
            lam, over = hint, new_over
            break

    if not at_tie and low < 0.0:  # λ = 0: the target alone
        low = 0.0
        lo_in = np.empty(n, np.uint8)
        mu_hi, mu_lo, spare = _end(c, c, k, side, lo_in)
        u, u_cut = c, mu_hi
        e_hi, e_lo, s_hi, s_lo = _surplus(a, lo_in, b_hi, b_lo)
        if e_hi < 0.0 and spare > 0:
            _end(c, a, k, side, lo_in)
            e_hi, e_lo, s_hi, s_lo = _surplus(a, lo_in, b_hi, b_lo)
        if e_hi >= 0.0:
            for i in range(n):
                flags[i] = lo_in[i]
            return OPTIMAL, 0.0, 0.0, mu_hi, mu_lo, none, none, 0.0, 0.0, steps, b_hi, b_lo
        under = e_hi

    if not at_tie and high == np.inf:  # λ = ∞: the control alone, then the target among its ties
        hi_in = np.empty(n, np.uint8)
        mu_hi, mu_lo, _ = _end(a, c, k, side, hi_in)
        v, v_cut = a, mu_hi
        e_hi, e_lo, s_hi, s_lo = _surplus(a, hi_in, b_hi, b_lo)
        if e_hi < 0.0:
            if -e_hi > slack:
                for i in range(n):
                    flags[i] = hi_in[i]
                return (
                    INFEASIBLE,
                    np.inf,
                    0.0,
                    mu_hi,
                    mu_lo,
                    none,
                    none,
                    0.0,
                    0.0,
                    steps,
                    s_hi,
                    s_lo,
                )
            b_hi, b_lo = s_hi, s_lo
            base = (-b_hi, -b_lo, abs(b_hi))
            e_hi = e_lo = 0.0
            s_hi, s_lo = _exchange(a, lo_in, hi_in)
            if not s_hi > 0.0:  # the mask of the least λ tried attains that best
                for i in range(n):
                    flags[i] = lo_in[i]
                mu_hi, mu_lo = least_kept(c, a, low, 0.0, flags)
                return OPTIMAL, low, 0.0, mu_hi, mu_lo, none, none, 0.0, 0.0, steps, b_hi, b_lo
        over = (e_hi, e_lo, _size_where(a, hi_in) + abs(b_hi))

    c0, a0 = c, a
    index = _indices(n)
    if not at_tie:
        c, a, u, v = c.copy(), a.copy(), u.copy(), v.copy()  # the open weights' own
        lo_in, hi_in = lo_in.copy(), hi_in.copy()
    seed = np.uint64(88172645463325252)
    size_before = n
    while not at_tie:
        if stop[0]:
            return STOPPED, low, 0.0, mu_hi, mu_lo, none, none, 0.0, 0.0, steps, b_hi, b_lo
        # Decide what the bracket decides; keep the rest.
        n = len(c)
        decided = np.empty(n, np.uint8)
        n_open = _prune(u, v, lo_in, hi_in, u_cut, v_cut, 1e-15, decided)
        if n_open < n:
            s_hi, s_lo, size = base
            for i in range(n):
                if decided[i] == 1:
                    flags[index[i]] = 1
                    k -= 1
                    s_hi, s_lo = _add(s_hi, s_lo, a[i], 0.0)
                    size = max(size, abs(s_hi))
            base = (s_hi, s_lo, size)
            m = 0
            for i in range(n):  # without branches
                c[m], a[m], u[m], v[m] = c[i], a[i], u[i], v[i]
                lo_in[m], hi_in[m], index[m] = lo_in[i], hi_in[i], index[i]
                m += decided[i] == 2
            c, a, u, v = c[:m], a[:m], u[:m], v[:m]
            lo_in, hi_in, index = lo_in[:m], hi_in[:m], index[:m]
            n = m

        dc_hi, dc_lo = _exchange(c, lo_in, hi_in)
        da_hi, da_lo = _exchange(a, lo_in, hi_in)
        lam, rest = _divide(-dc_hi, -dc_lo, da_hi, da_lo)
        tangent = True
        apart = 0
        for i in range(n):
            apart += lo_in[i] != hi_in[i]
        if apart > _FEW:
            # Far from the end: where the excess, nearly linear in λ, should vanish; every
            # other time with the older end's excess halved, to close in from both sides
            # (Illinois). Every third time where tangents meet, or by a crossing if the
            # masks are no closer than three steps ago.
            trial = lam
            if steps % 3 == 2:
                if 2 * apart > size_before:
                    seed = _next_random(seed)
                    trial = _random_crossing(c, a, lo_in, hi_in, seed)
                size_before = apart
            elif high < np.inf:
                e_lo, e_hi = under, over[0]
                if steps % 3 == 1:
                    if moved_lo:
                        e_hi *= 0.5
                    else:
                        e_lo *= 0.5
                trial = low + (high - low) * (e_lo / (e_lo - e_hi))
            if trial != lam and trial > low and trial < high:
                lam, rest = trial, 0.0
                tangent = False
        inside = (lam > low or (lam == low and rest > low_rest)) and (
            lam < high or (lam == high and rest < high_rest)
        )
        if not inside or lam > 1e290 or steps >= _MAX_STEPS:
            break

        steps += 1
        s = np.empty(n)
        where, new_in, new_over, mu_hi, mu_lo, count, ties = _evaluate(
            c, a, lam, rest, k, hi_in, over, base, s
        )
        if where < 0:  # even the ties' largest controls fall short: λ is too small
            gain, _ = _exchange(a, lo_in, new_in)
            if tangent and not gain > 0.0:
                break
            lo_in, u, u_cut, low, low_rest = new_in, s, mu_hi, lam, rest
            under, moved_lo = new_over[0], True
        elif where > 0:  # even their smallest exceed the floor: λ is too large
            gain, _ = _exchange(a, new_in, hi_in)
            if tangent and not gain > 0.0:
                break
            hi_in, over = new_in, new_over
            v, v_cut, high, high_rest = s, mu_hi, lam, rest
            moved_lo = False
        else:
            at_tie = True
            over = new_over

    n = len(c)
    chosen = new_in
    if not at_tie:
        # No mask lies between: what the two differ in is tied at the minimum.
        side = np.empty(n, np.uint8)
        count = _FIRST
        for i in range(n):
            side[i] = 2 * lo_in[i] if lo_in[i] == hi_in[i] else 1
            count += lo_in[i] == 1 and hi_in[i] == 0
        ties = _tied(side)
        chosen = np.empty(n, np.uint8)
        _choose_first(side, ties, a, 1.0, count, chosen)
        over = _excess(a, chosen, hi_in, over, base)
        if not (lam > low or (lam == low and rest > low_rest)):
            lam, rest = low, low_rest
        elif not (lam < high or (lam == high and rest < high_rest)):
            lam, rest = high, high_rest
        if lam > 1e290:
            lam, rest = 1e290, 0.0
    order = _order(a, ties)
    for t in range(len(ties)):  # of equal controls those that come first
        chosen[ties[order[t]]] = t < count
    p, q, x_p, x_q = _window(a, ties, order, count, over[0], over[1], chosen)
    if p >= 0:
        mu_hi, mu_lo = _combine(c[p], a[p], lam, rest)
        p, q = index[p], index[q]
    for i in range(n):
        if chosen[i]:
            flags[index[i]] = 1
    if p < 0:
        mu_hi, mu_lo = least_kept(c0, a0, lam, rest, flags)
    return OPTIMAL, lam, rest, mu_hi, mu_lo, p, q, x_p, x_q, steps, b_hi, b_lo


@compiled
def gap_terms(c, a, lam, rest, mu_hi, mu_lo, flags, p, q, x_p, x_q):
    """Σ max(0, r) − x r over the given weights, r = c + λ a − μ in double-double; ≥ 0."""
    total = 0.0
    for i in range(len(c)):
        s, t = _combine(c[i], a[i], lam, rest)
        r, _ = _add(s, t, -mu_hi, -mu_lo)
        x = 1.0 if flags[i] else 0.0
        if i == p:
            x = x_p
        elif i == q:
            x = x_q
        if r > 0.0:
            total += (1.0 - x) * r
        elif r < 0.0:
            total -= x * r
    return total


@compiled
def floor_excess(a, b_hi, b_lo, flags, p, q, x_p, x_q):
    """a·x − b, summed as a double-double."""
    hi, lo = _sum_where(a, flags)
    if p >= 0:
        s, t = _two_prod(x_p, a[p])
        hi, lo = _add(hi, lo, s, t)
        s, t = _two_prod(x_q, a[q])
        hi, lo = _add(hi, lo, s, t)
    hi, lo = _add(hi, lo, -b_hi, -b_lo)
    return hi


@compiled
def _is_near(c, a, lam, rest, mu_hi, mu_lo):
    """Whether c + λ a equals μ up to rounding of the terms."""
    s, t = _combine(c, a, lam, rest)
    r, _ = _add(s, t, -mu_hi, -mu_lo)
    return abs(r) <= 1e-14 * (abs(c) + lam * abs(a))


@compiled
def near_threshold(c, a, lam, rest, mu_hi, mu_lo, near):
    """near[i] = whether c + λ a equals μ up to rounding of the terms. Returns how many."""
    count = 0
    for i in range(len(c)):
        near[i] = _is_near(c[i], a[i], lam, rest, mu_hi, mu_lo)
        count += near[i]
    return count
