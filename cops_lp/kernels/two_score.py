"""Kernel of the two-score algorithm: one target, one control, exactly, without an LP solver.

Minimizes the convex piecewise-linear dual ``g(λ) = T_k(c + λ a) − λ b`` over λ ≥ 0. At any λ
the top-k mask M of ``c + λ a`` gives a line ``c·M + λ (a·M − b)`` that supports g from below.
A bracket [lo, hi] with a·M_lo < b ≤ a·M_hi always holds the minimum; the next λ is where the
two lines meet. The search ends when a tie at the threshold spans b, or when no mask is left
between the two; then weights that differ between M_lo and M_hi are all tied, and a window
over them, sorted by control score, hits b with two fractional weights.

Weights that stay on the same side of the threshold over the whole bracket are decided and
leave the arrays (:func:`_prune`), so each step costs less than the one before.

Combined scores are double-double (106 bits): at a crossing two of them differ by less than
float64 can tell whenever λ|a| is large beside |c|.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["INFEASIBLE", "OPTIMAL", "gap_terms", "least_kept", "sum_dd", "top_k", "two_score"]

OPTIMAL = 0
INFEASIBLE = 1

_MAX_STEPS = 10_000  # never met: each step takes at least one mask out of the bracket


# --- double-double arithmetic (Dekker 1971; Knuth's two-sum) -------------------------------


@njit(nogil=True, cache=True, error_model="numpy")
def _two_sum(a, b):
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@njit(nogil=True, cache=True, error_model="numpy")
def _two_prod(a, b):
    p = a * b
    t = 134217729.0 * a
    a_hi = t - (t - a)
    a_lo = a - a_hi
    t = 134217729.0 * b
    b_hi = t - (t - b)
    b_lo = b - b_hi
    return p, ((a_hi * b_hi - p) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo


@njit(nogil=True, cache=True, error_model="numpy")
def _add(a_hi, a_lo, b_hi, b_lo):
    s, e = _two_sum(a_hi, b_hi)
    t, f = _two_sum(a_lo, b_lo)
    e += t
    u = s + e
    e = (e - (u - s)) + f
    v = u + e
    return v, e - (v - u)


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
def _combine(c, a, lam, lam_lo):
    """C + (lam + lam_lo) a as a double-double."""
    p, e = _two_prod(lam, a)
    s, f = _two_sum(c, p)
    f += e + lam_lo * a
    hi = s + f
    return hi, f - (hi - s)


@njit(nogil=True, cache=True, error_model="numpy")
def sum_dd(x):
    """Sum of a float64 array as a double-double; shape (n,), O(n)."""
    hi = lo = 0.0
    for i in range(len(x)):
        hi, lo = _add(hi, lo, x[i], 0.0)
    return hi, lo


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_where(x, flags):
    hi = lo = 0.0
    for i in range(len(x)):
        if flags[i]:
            hi, lo = _add(hi, lo, x[i], 0.0)
    return hi, lo


@njit(nogil=True, cache=True, error_model="numpy")
def _next_random(seed):
    """Xorshift (Marsaglia 2003); fixed seeds, so every run takes the same steps."""
    seed ^= seed << np.uint64(13)
    seed ^= seed >> np.uint64(7)
    return seed ^ (seed << np.uint64(17))


# --- selection -----------------------------------------------------------------------------


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
def _threshold(hi, lo, k, side):
    """Find the k-th largest double-double; side[i] becomes 2 above, 1 tied with it, 0 below.

    Returns its two parts and the number above. 1 ≤ k ≤ n.
    """
    n = len(hi)
    mu_hi = _kth_largest(hi.copy(), k)
    above = ties = 0
    low_min = np.inf
    low_max = -np.inf
    for i in range(n):
        if hi[i] > mu_hi:
            side[i] = 2
            above += 1
        elif hi[i] == mu_hi:
            side[i] = 1
            ties += 1
            low_min = min(low_min, lo[i])
            low_max = max(low_max, lo[i])
        else:
            side[i] = 0
    mu_lo = low_min
    if low_min < low_max:
        low = np.empty(ties)
        m = 0
        for i in range(n):
            if side[i] == 1:
                low[m] = lo[i]
                m += 1
        mu_lo = _kth_largest(low, k - above)
        for i in range(n):
            if side[i] == 1:
                if lo[i] > mu_lo:
                    side[i] = 2
                    above += 1
                elif lo[i] < mu_lo:
                    side[i] = 0
    return mu_hi, mu_lo, above


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
def _choose(side, ties, order, first, count, flags):
    """Flags = above, plus `count` of the ties from position `first` of their order on."""
    for i in range(len(side)):
        flags[i] = side[i] == 2
    for j in range(first, first + count):
        flags[ties[order[j]]] = 1


@njit(nogil=True, cache=True, error_model="numpy")
def top_k(c, k, flags):
    """Mark the k largest entries, ties to the lowest index; 1 ≤ k ≤ n. Returns the k-th."""
    n = len(c)
    mu = _kth_largest(c.copy(), k)
    left = k
    for i in range(n):
        flags[i] = c[i] > mu
        if c[i] > mu:
            left -= 1
    for i in range(n):
        if left == 0:
            break
        if c[i] == mu:
            flags[i] = 1
            left -= 1
    return mu


# --- the algorithm -------------------------------------------------------------------------


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
def _window(a, ties, order, count, over_hi, over_lo, flags):
    """Move a window over the tied weights until its control sum meets the floor.

    `order` sorts the ties by a, largest first, then by index. flags holds what is kept beside
    the ties and the first `count` of them, the window with the largest sum; `over` ≥ 0 is by
    how much that exceeds the floor. Moved by one place the window loses a[leaves] − a[enters].
    Where the next move would fall short, a mixture of the two windows meets the floor.

    Sets flags of the ties; returns (p, q, x_p, x_q), p leaving and q entering, -1 when whole.
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
    if start > 0 and start < m:
        # Of equal weights the lowest index stays: undo what the window's front skipped.
        value = a[ties[order[start]]]
        first = last = start
        while first > 0 and a[ties[order[first - 1]]] == value:
            first -= 1
        while last < m and a[ties[order[last]]] == value:
            last += 1
        if p >= 0:
            flags[p] = 0
        kept = 0
        for j in range(first, last):
            kept += flags[ties[order[j]]]
            flags[ties[order[j]]] = 0
        for j in range(first, first + kept):
            flags[ties[order[j]]] = 1
        if p >= 0:
            p = ties[order[first + kept]]
    if p >= 0:
        flags[p] = 0
        flags[q] = 0
    return p, q, x_p, x_q


@njit(nogil=True, cache=True, error_model="numpy")
def _prune(u, v, lo_in, hi_in, margin, decided):
    """Find weights whose side is the same at every λ of the bracket.

    u and v are the combined scores at its ends (v = a where the upper end is infinite: then
    s(λ) = u + (λ − lo) v, a positive combination all the same). All weights of M_lo lie above
    the chord (min u, min v over M_lo) everywhere on the bracket, so at least k weights do:
    what is below it at both ends is never kept. Likewise with M_hi, and for the n − k
    weights outside. `margin` (relative) covers the rounding of u and v.

    decided[i]: 1 kept, 0 dropped, 2 open. Returns the number open.
    """
    n = len(u)
    in_u = np.full(2, np.inf)
    in_v = np.full(2, np.inf)
    out_u = np.full(2, -np.inf)
    out_v = np.full(2, -np.inf)
    for i in range(n):
        j = 0
        if lo_in[i]:
            in_u[j] = min(in_u[j], u[i])
            in_v[j] = min(in_v[j], v[i])
        else:
            out_u[j] = max(out_u[j], u[i])
            out_v[j] = max(out_v[j], v[i])
        j = 1
        if hi_in[i]:
            in_u[j] = min(in_u[j], u[i])
            in_v[j] = min(in_v[j], v[i])
        else:
            out_u[j] = max(out_u[j], u[i])
            out_v[j] = max(out_v[j], v[i])
    n_open = 0
    for i in range(n):
        decided[i] = 2
        m_u = margin * abs(u[i])
        m_v = margin * abs(v[i])
        for j in range(2):
            if u[i] + m_u < in_u[j] and v[i] + m_v < in_v[j]:
                decided[i] = 0
            elif u[i] - m_u > out_u[j] and v[i] - m_v > out_v[j]:
                decided[i] = 1
        n_open += decided[i] == 2
    return n_open


@njit(nogil=True, cache=True, error_model="numpy")
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


@njit(nogil=True, cache=True, error_model="numpy")
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
    crossings.sort()
    return crossings[7]


@njit(nogil=True, cache=True, error_model="numpy")
def two_score(c, a, k, b_hi, b_lo, slack, flags):
    """Solve max c·x over 1·x = k, a·x ≥ b, 0 ≤ x ≤ 1, exactly.

    Parameters
    ----------
    c, a : float64, shape (n,)
        Finite, |entries| at most about 1 (the caller scales by a power of two).
    k : int, 1 ≤ k ≤ n
    b_hi, b_lo : float64
        The floor as a double-double.
    slack : float64, ≥ 0
        A floor above the attainable best by no more than this counts as the best.
    flags : uint8, shape (n,), filled
        1 where x = 1.

    Returns
    -------
    code : int
        OPTIMAL or INFEASIBLE.
    lam : float
        λ ≥ 0.
    mu_hi, mu_lo : float
        The threshold, a double-double.
    p, q : int
        The fractional weights, or -1; x_p + x_q = 1 exactly.
    x_p, x_q : float
    steps : int
        How many λ were tried beyond 0 and infinity.
    b_hi, b_lo : float
        The floor used: the attainable best where the given one exceeded it within `slack`.

    Notes
    -----
    Ties go to the lowest index among weights with equal scores. Each step is O(open weights);
    no mask is met twice, so it ends on any input, with or without ties.
    """
    n0 = len(c)
    none = np.int64(-1)
    flags[:] = 0

    # λ = 0: the target alone.
    side = np.empty(n0, np.uint8)
    lo_in = np.empty(n0, np.uint8)
    zero = np.zeros(n0)
    mu_hi, mu_lo, above = _threshold(c, zero, k, side)
    ties = _tied(side)
    _choose(side, ties, np.arange(len(ties)), 0, k - above, lo_in)
    s_hi, s_lo = _sum_where(a, lo_in)
    e_hi, e_lo = _add(s_hi, s_lo, -b_hi, -b_lo)
    if e_hi < 0.0 and len(ties) > k - above:
        order = np.argsort(-a[ties], kind="mergesort")
        _choose(side, ties, order, 0, k - above, lo_in)
        s_hi, s_lo = _sum_where(a, lo_in)
        e_hi, e_lo = _add(s_hi, s_lo, -b_hi, -b_lo)
    if e_hi >= 0.0:
        flags[:] = lo_in
        return OPTIMAL, 0.0, mu_hi, mu_lo, none, none, 0.0, 0.0, 0, b_hi, b_lo

    zero_hi = mu_hi

    # λ = ∞: the control alone, then the target among its ties.
    hi_in = np.empty(n0, np.uint8)
    mu_hi, mu_lo, above = _threshold(a, zero, k, side)
    ties = _tied(side)
    order = np.argsort(-c[ties], kind="mergesort")
    _choose(side, ties, order, 0, k - above, hi_in)
    s_hi, s_lo = _sum_where(a, hi_in)
    e_hi, e_lo = _add(s_hi, s_lo, -b_hi, -b_lo)
    if e_hi < 0.0:
        if -e_hi > slack:
            flags[:] = hi_in
            return INFEASIBLE, np.inf, mu_hi, mu_lo, none, none, 0.0, 0.0, 0, s_hi, s_lo
        b_hi, b_lo = s_hi, s_lo
        e_hi = e_lo = 0.0
        s_hi, s_lo = _exchange(a, lo_in, hi_in)
        if not s_hi > 0.0:  # the target's own mask attains that best
            flags[:] = lo_in
            return OPTIMAL, 0.0, zero_hi, 0.0, none, none, 0.0, 0.0, 0, b_hi, b_lo

    # By how much M_hi exceeds the floor, ≥ 0. Other masks are measured by what they exchange
    # with M_hi, so that what they share cancels exactly.
    over_hi, over_lo = e_hi, e_lo
    index = np.arange(n0)
    u, v = c.copy(), a.copy()
    c, a = u, v  # the open weights' own arrays from here on
    u, v = c.copy(), a.copy()
    # λ itself is a double-double: between neighboring floats many weights may change places.
    # (low, high) is the bracket, (lam, rest) the trial.
    low, low_rest, high, high_rest = 0.0, 0.0, np.inf, 0.0
    lam = rest = 0.0
    steps = 0
    seed = np.uint64(88172645463325252)
    size_before = n0
    p = q = none
    x_p = x_q = 0.0
    at_tie = False
    while True:
        # Decide what the bracket decides; keep the rest.
        n = len(c)
        decided = np.empty(n, np.uint8)
        n_open = _prune(u, v, lo_in, hi_in, 1e-15, decided)
        if n_open < n:
            m = 0
            for i in range(n):
                if decided[i] == 1:
                    flags[index[i]] = 1
                    k -= 1
                elif decided[i] == 2:
                    c[m], a[m], u[m], v[m] = c[i], a[i], u[i], v[i]
                    lo_in[m], hi_in[m], index[m] = lo_in[i], hi_in[i], index[i]
                    m += 1
            c, a, u, v = c[:m], a[:m], u[:m], v[:m]
            lo_in, hi_in, index = lo_in[:m], hi_in[:m], index[:m]
            n = m

        dc_hi, dc_lo = _exchange(c, lo_in, hi_in)
        da_hi, da_lo = _exchange(a, lo_in, hi_in)
        lam, rest = _divide(-dc_hi, -dc_lo, da_hi, da_lo)
        tangent = True
        if steps % 3 == 2:
            apart = 0
            for i in range(n):
                apart += lo_in[i] != hi_in[i]
            if apart > 8 and 2 * apart > size_before:
                seed = _next_random(seed)
                crossing = _random_crossing(c, a, lo_in, hi_in, seed)
                if crossing > low and crossing < high:
                    lam, rest = crossing, 0.0
                    tangent = False
            size_before = apart
        inside = (lam > low or (lam == low and rest > low_rest)) and (
            lam < high or (lam == high and rest < high_rest)
        )
        if not inside or lam > 1e290 or steps >= _MAX_STEPS:
            break

        steps += 1
        s = np.empty(n)
        t = np.empty(n)
        for i in range(n):
            s[i], t[i] = _combine(c[i], a[i], lam, rest)
        side = np.empty(n, np.uint8)
        mu_hi, mu_lo, above = _threshold(s, t, k, side)
        ties = _tied(side)
        order = np.argsort(-a[ties], kind="mergesort")
        count = k - above
        new_in = np.empty(n, np.uint8)
        _choose(side, ties, order, 0, count, new_in)
        f_hi, f_lo = _exchange(a, hi_in, new_in)
        e_hi, e_lo = _add(over_hi, over_lo, f_hi, f_lo)
        if e_hi < 0.0:  # even the ties' largest controls fall short: λ is too small
            f_hi, f_lo = _exchange(a, lo_in, new_in)
            if f_hi > 0.0:
                lo_in = new_in
            elif tangent:
                break
            u, low, low_rest = s, lam, rest
            continue
        least_in = np.empty(n, np.uint8)
        _choose(side, ties, order, len(ties) - count, count, least_in)
        f_hi, f_lo = _exchange(a, hi_in, least_in)
        f_hi, f_lo = _add(over_hi, over_lo, f_hi, f_lo)
        if f_hi > 0.0:  # even their smallest exceed the floor: λ is too large
            g_hi, _ = _exchange(a, least_in, hi_in)
            if g_hi > 0.0:
                hi_in, over_hi, over_lo = least_in, f_hi, f_lo
            elif tangent:
                break
            v, high, high_rest = s, lam, rest
            continue
        at_tie = True
        break

    n = len(c)
    if at_tie:
        chosen = new_in
        over_hi, over_lo = e_hi, e_lo
    else:
        # No mask lies between: what the two differ in is tied at the minimum.
        side = np.empty(n, np.uint8)
        count = 0
        for i in range(n):
            side[i] = 2 * lo_in[i] if lo_in[i] == hi_in[i] else 1
            count += lo_in[i] == 1 and hi_in[i] == 0
        ties = _tied(side)
        order = np.argsort(-a[ties], kind="mergesort")
        chosen = np.empty(n, np.uint8)
        _choose(side, ties, order, 0, count, chosen)
        f_hi, f_lo = _exchange(a, hi_in, chosen)
        over_hi, over_lo = _add(over_hi, over_lo, f_hi, f_lo)
    p, q, x_p, x_q = _window(a, ties, order, count, over_hi, over_lo, chosen)
    # From here on λ is the float64 that is returned; the threshold is that of a tied weight.
    lam = min(max(lam, low), high, 1e290)
    pivot = p
    if pivot < 0:
        pivot = ties[0]
        for j in range(len(ties)):  # the kept tie with the least combined score
            i = ties[j]
            if chosen[i] and (
                not chosen[pivot]
                or _combine(c[i], a[i], lam, 0.0) < _combine(c[pivot], a[pivot], lam, 0.0)
            ):
                pivot = i
    mu_hi, mu_lo = _combine(c[pivot], a[pivot], lam, 0.0)
    for i in range(n):
        if chosen[i]:
            flags[index[i]] = 1
    if p >= 0:
        p, q = index[p], index[q]
    return OPTIMAL, lam, mu_hi, mu_lo, p, q, x_p, x_q, steps, b_hi, b_lo


@njit(nogil=True, cache=True, error_model="numpy")
def least_kept(c, a, lam, flags):
    """Smallest double-double c + λ a among the flagged weights (at least one)."""
    least_hi, least_lo = np.inf, 0.0
    for i in range(len(c)):
        if flags[i]:
            s, t = _combine(c[i], a[i], lam, 0.0)
            if s < least_hi or (s == least_hi and t < least_lo):
                least_hi, least_lo = s, t
    return least_hi, least_lo


@njit(nogil=True, cache=True, error_model="numpy")
def gap_terms(c, a, lam, mu_hi, mu_lo, flags, p, q, x_p, x_q):
    """Σ max(0, r) − x r over the given weights, r = c + λ a − μ in double-double; ≥ 0."""
    total = 0.0
    for i in range(len(c)):
        s, t = _combine(c[i], a[i], lam, 0.0)
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
