"""Kernel of the dual simplex: one target, any number of controls, boxes, an equality.

Solves ``max c·x  over  1·x = k,  A x − s = b,  s ≥ 0,  0 ≤ x ≤ u`` by descending on the dual

    D(π) = π·(k, b) + Σ u_i max(0, c_i − π·(1, A_i)),   π = (μ, −λ),   λ ≥ 0

A weight is a column with u = 1; n weights that are equal in every score are one with u = n, a
weight sampled with probability p is one with u = 1/p.

from vertex to vertex. A vertex is the point where the reduced costs of K + 1 basic columns
are 0. The signs of the others put each column on 0 or u, the basic values follow, and the edge
that leaves the most violated of them descends. Along it an exact line search passes every
breakpoint up to the one where the slope turns (the long-step ratio test: the weights passed
flip from one bound to the other).

**Ties.** The target is c + ε p with an infinitesimal ε and a fixed p that falls with the index
and is otherwise random. So every reduced cost is a pair, compared by its first part and, where
that is 0, by its second; the pair (D, D of p) falls at every step and no vertex returns. Among
weights equal in every score it keeps those of lowest index. Where a step is (0, 0) all the
same, Bland's rule takes over after a few of them until the dual falls again: the violated
variable of lowest index leaves, the first breakpoint's variable of lowest index enters, nothing
else flips. Both end.

**Numbers.** The inverse of the basis, π and the basic values are double-doubles, computed anew
at every vertex from the basis alone. Reduced costs and pivot rows are float64 with an error
bound; where it does not tell the sign or the order they are evaluated again in double-double.
The right-hand side less the columns on u is a sum of four float64 parts.

The double-double helpers are two_score's. Numba's cache does not notice a change in another
file: after one there, clear this file's cache too.
"""

from __future__ import annotations

import numpy as np

from ._jit import compiled
from .two_score import _add, _divide, _next_random, _two_prod, _two_sum

__all__ = [
    "INFEASIBLE",
    "NUMERICAL",
    "OPTIMAL",
    "UNFINISHED",
    "combined_gap",
    "combined_score",
    "dual_simplex",
    "least_combined",
    "perturbation",
]

OPTIMAL = 0
INFEASIBLE = 1
NUMERICAL = 2
UNFINISHED = 3

_BASIC = 2  # state of a basic weight; 0 and 1 are the bounds
_FLOAT = 2.3e-16  # a little more than half a unit in the last place, twice
_TIE = 1e-29  # of the size that goes with a double-double: this small it is 0
_PIVOT = 1e-28  # the same for entries of the pivot row
_CORRECT = 1e-31  # of its terms: a residual of the inverse above this is corrected
_EARLY = 1e-12  # the line search may stop where the slope is this share of the first


@compiled
def _multiply(a_hi, a_lo, b_hi, b_lo):
    p, e = _two_prod(a_hi, b_hi)
    e += a_hi * b_lo + a_lo * b_hi
    s = p + e
    return s, e - (s - p)


@compiled
def _plus(hi, lo, a_hi, a_lo, b_hi, b_lo):
    """Sum of one double-double and the product of two."""
    if a_hi == 0.0 or b_hi == 0.0:
        return hi, lo
    f_hi, f_lo = _multiply(a_hi, a_lo, b_hi, b_lo)
    return _add(hi, lo, f_hi, f_lo)


@compiled
def _less(hi, lo, size, a_hi, a_lo, b):
    """A double-double less the product of another and b; and size + |product|."""
    if a_hi == 0.0 or b == 0.0:
        return hi, lo, size
    f_hi, f_lo = _multiply(a_hi, a_lo, b, 0.0)
    hi, lo = _add(hi, lo, -f_hi, -f_lo)
    return hi, lo, size + abs(f_hi)


@compiled
def perturbation(n, p):
    """Fill p, shape (n,): the second target, falling with the index, otherwise random."""
    seed = np.uint64(0x9E3779B97F4A7C15)
    for i in range(n):
        seed = _next_random(seed)
        p[i] = -(i + np.float64(seed >> np.uint64(11)) * 2.0**-53) / n


@compiled
def _accumulate(parts, x):
    """Add x to a sum of four parts (Ogita, Rump, Oishi 2005: SumK)."""
    e = x
    for j in range(3):
        parts[j], e = _two_sum(parts[j], e)
    parts[3] += e


@compiled
def _total(parts):
    """Value of four parts as a double-double."""
    a, b, c, d = parts[0], parts[1], parts[2], parts[3]
    for _ in range(3):  # distill: errors move down until the parts no longer overlap
        c, d = _two_sum(c, d)
        b, c = _two_sum(b, c)
        a, b = _two_sum(a, b)
    hi, lo = _two_sum(a, b)
    return _add(hi, lo, c, d)


@compiled
def _move(rest, scores, i, amount):
    """Rest += amount · (1, A_i)."""
    _accumulate(rest[0], amount)
    for j in range(1, rest.shape[0]):
        product, error = _two_prod(amount, scores[j, i])
        _accumulate(rest[j], product)
        if error != 0.0:
            _accumulate(rest[j], error)


@compiled
def _entry(scores, i, j):
    """Row j of column i: (1, A_i) of a weight, −e_j of a slack."""
    n = scores.shape[1]
    if i >= n:
        return -1.0 if j == 1 + i - n else 0.0
    return 1.0 if j == 0 else scores[j, i]


@compiled
def _correct(scores, basis, inv_hi, inv_lo, inv_size, w_hi, w_lo):
    """One Newton step, inv += (I − inv·B) inv, where it can improve on elimination.

    Elimination leaves errors in proportion to the largest entries, a left inverse corrected
    like this in proportion to each entry's own terms. Fills inv_size = |inv| |B| |inv|, the
    scale of its rounding errors.
    """
    m = len(basis)
    accurate = True
    for t in range(m):
        for u in range(m):  # entry (t, u) of I − inv·B
            hi, lo = (1.0, 0.0) if t == u else (0.0, 0.0)
            size = 0.0
            for j in range(m):
                b = _entry(scores, basis[u], j)
                hi, lo, size = _less(hi, lo, size, inv_hi[t, j], inv_lo[t, j], b)
            w_hi[t, u], w_lo[t, u] = hi, lo
            w_hi[t, m + u] = size
            accurate = accurate and abs(hi) <= _CORRECT * size
    for t in range(m):
        for j in range(m):
            inv_size[t, j] = 0.0
            for u in range(m):
                inv_size[t, j] += w_hi[t, m + u] * abs(inv_hi[u, j])
    if accurate:
        return
    for t in range(m):
        for j in range(m):
            hi = lo = 0.0
            for u in range(m):
                hi, lo = _plus(hi, lo, w_hi[t, u], w_lo[t, u], inv_hi[u, j], inv_lo[u, j])
            w_hi[t, m + j], w_lo[t, m + j] = hi, lo
    for t in range(m):
        for j in range(m):
            inv_hi[t, j], inv_lo[t, j] = _add(
                inv_hi[t, j], inv_lo[t, j], w_hi[t, m + j], w_lo[t, m + j]
            )


@compiled
def _invert(scores, basis, inv_hi, inv_lo, inv_size):
    """Inverse of the basis by Gauss-Jordan elimination, rows scaled; False if singular."""
    m = len(basis)
    w_hi = np.empty((m, 2 * m))
    w_lo = np.empty((m, 2 * m))
    largest = np.empty(m)
    for j in range(m):
        largest[j] = 0.0
        for t in range(m):
            w_hi[j, t] = _entry(scores, basis[t], j)
            w_hi[j, m + t] = 1.0 if t == j else 0.0
            w_lo[j, t] = w_lo[j, m + t] = 0.0
            largest[j] = max(largest[j], abs(w_hi[j, t]))
        if largest[j] == 0.0:
            return False
    for t in range(m):
        best = -1.0
        row = t
        for j in range(t, m):
            size = abs(w_hi[j, t]) / largest[j]
            if size > best:
                best, row = size, j
        if not best > 1e-29:
            return False
        if row != t:
            for u in range(2 * m):
                w_hi[t, u], w_hi[row, u] = w_hi[row, u], w_hi[t, u]
                w_lo[t, u], w_lo[row, u] = w_lo[row, u], w_lo[t, u]
            largest[t], largest[row] = largest[row], largest[t]
        p_hi, p_lo = w_hi[t, t], w_lo[t, t]
        for u in range(t, 2 * m):
            if w_hi[t, u] != 0.0:
                w_hi[t, u], w_lo[t, u] = _divide(w_hi[t, u], w_lo[t, u], p_hi, p_lo)
        for j in range(m):
            f_hi, f_lo = w_hi[j, t], w_lo[j, t]
            if j == t or f_hi == 0.0:
                continue
            for u in range(t, 2 * m):
                w_hi[j, u], w_lo[j, u] = _plus(
                    w_hi[j, u], w_lo[j, u], -f_hi, -f_lo, w_hi[t, u], w_lo[t, u]
                )
            w_hi[j, t] = w_lo[j, t] = 0.0
    for t in range(m):
        for j in range(m):
            inv_hi[t, j] = w_hi[t, m + j]
            inv_lo[t, j] = w_lo[t, m + j]
    _correct(scores, basis, inv_hi, inv_lo, inv_size, w_hi, w_lo)
    return True


@compiled
def _prices(scores, costs, basis, inv_hi, inv_lo, pi_hi, pi_lo, pi_size, size):
    """Solve π·B = costs_B, corrected once by its own residual.

    `size`, shape (m,), scales what residual each basic column keeps, pi_size the error of π.
    """
    m = len(basis)
    n = scores.shape[1]
    gap_hi = np.empty(m)
    gap_lo = np.empty(m)
    for j in range(m):
        pi_hi[j] = pi_lo[j] = 0.0
    for _ in range(2):
        for t in range(m):
            hi, lo = 0.0, 0.0
            if basis[t] < n:
                hi = costs[basis[t]]
            total = abs(hi)
            for j in range(m):
                b = _entry(scores, basis[t], j)
                hi, lo, total = _less(hi, lo, total, pi_hi[j], pi_lo[j], b)
            gap_hi[t], gap_lo[t], size[t] = hi, lo, total
        for j in range(m):
            pi_size[j] = 0.0
            for t in range(m):
                pi_size[j] += size[t] * abs(inv_hi[t, j])
                pi_hi[j], pi_lo[j] = _plus(
                    pi_hi[j], pi_lo[j], gap_hi[t], gap_lo[t], inv_hi[t, j], inv_lo[t, j]
                )
    for j in range(m):
        if abs(pi_hi[j]) <= _TIE * pi_size[j]:
            pi_hi[j] = pi_lo[j] = 0.0


@compiled
def _basic_values(scores, basis, inv_hi, inv_lo, rest_hi, rest_lo, values, value_size):
    """Solve B·x = rest, corrected once; value_size bounds what error is left."""
    m = len(basis)
    gap_hi = np.empty(m)
    gap_lo = np.empty(m)
    size = np.empty(m)
    for t in range(m):
        values[t, 0] = values[t, 1] = 0.0
    for _ in range(2):
        for j in range(m):
            hi, lo = rest_hi[j], rest_lo[j]
            total = abs(hi)
            for t in range(m):
                b = _entry(scores, basis[t], j)
                hi, lo, total = _less(hi, lo, total, values[t, 0], values[t, 1], b)
            gap_hi[j], gap_lo[j], size[j] = hi, lo, total
        for t in range(m):
            value_size[t] = 0.0
            for j in range(m):
                value_size[t] += _TIE * size[j] * abs(inv_hi[t, j])
                values[t, 0], values[t, 1] = _plus(
                    values[t, 0], values[t, 1], gap_hi[j], gap_lo[j], inv_hi[t, j], inv_lo[t, j]
                )


@compiled
def _rows(scores, first, weights, value, size):
    """Value = first · scores[0] − weights·(1, A); size: the same of |terms|.

    `first` is 1 or 0.
    """
    n = scores.shape[1]
    constant = -weights[0]
    for i in range(n):
        value[i] = first * scores[0, i] + constant
        size[i] = first * abs(scores[0, i]) + abs(constant)
    for j in range(1, scores.shape[0]):
        w = -weights[j]
        if w == 0.0:
            continue
        v = abs(w)
        for i in range(n):
            value[i] += w * scores[j, i]
            size[i] += v * abs(scores[j, i])


@compiled
def _form(scores, i, base, w_hi, w_lo, inv_hi, size):
    """Base − w·(1, A_i) as a double-double, and a scale of its error.

    w solves w·B = (something) up to a residual in proportion to `size`, shape (m,), which
    reaches column i through inv·(1, A_i).
    """
    m = len(w_hi)
    reach = abs(base) + abs(w_hi[0])
    hi, lo = _add(base, 0.0, -w_hi[0], -w_lo[0])
    for j in range(1, m):
        if w_hi[j] != 0.0:
            p, e = _two_prod(w_hi[j], scores[j, i])
            hi, lo = _add(hi, lo, -p, -(e + w_lo[j] * scores[j, i]))
            reach += abs(p)
    for t in range(m):
        if size[t] != 0.0:
            share = inv_hi[t, 0]
            for j in range(1, m):
                share += inv_hi[t, j] * scores[j, i]
            reach += size[t] * abs(share)
    return hi, lo, reach


@compiled
def _sign(hi, size):
    """The value, 0 where rounding hides its sign."""
    return hi if abs(hi) > _TIE * size else 0.0


@compiled
def _turn(theta, sign, error, weight, count, need, keys, weights):
    """Smallest key at which the weights of all keys up to it reach `need`; inf if none.

    Keys are theta + sign · error. Weighted selection on count of them, expected O(count), in
    the scratch arrays `keys` and `weights`.
    """
    for q in range(count):
        keys[q], weights[q] = theta[q] + sign * error[q], weight[q]
    left, right = 0, count
    done = 0.0
    seed = np.uint64(88172645463325252)
    while left < right:
        seed = _next_random(seed)
        span = np.uint64(right - left)
        x = keys[left + np.int64((seed >> np.uint64(33)) % span)]
        seed = _next_random(seed)
        y = keys[left + np.int64((seed >> np.uint64(33)) % span)]
        z = keys[(left + right) // 2]
        pivot = max(min(x, y), min(max(x, y), z))
        # Three parts: below, equal, above.
        below, i, above = left, left, right
        less = equal = 0.0
        while i < above:
            if keys[i] < pivot:
                less += weights[i]
                keys[i], keys[below] = keys[below], keys[i]
                weights[i], weights[below] = weights[below], weights[i]
                below += 1
                i += 1
            elif keys[i] > pivot:
                above -= 1
                keys[i], keys[above] = keys[above], keys[i]
                weights[i], weights[above] = weights[above], weights[i]
            else:
                equal += weights[i]
                i += 1
        if done + less >= need and below > left:
            right = below
        elif done + less + equal >= need:
            return pivot
        else:
            done += less + equal
            left = above
    return np.inf


@compiled
def _fill(c, upper, k, state, keys, none, scratch, weights):
    """State 1 for the columns of largest c up to an amount of k; the last one becomes basic.

    Of equal ones those of lowest index. Returns the basic one. The other arguments are scratch.
    """
    n = len(c)
    for i in range(n):
        keys[i], none[i] = -c[i], 0.0
    least = -_turn(keys, 1.0, none, upper, n, k, scratch, weights)
    if least == -np.inf:  # k is all there is, but for rounding
        least = -keys[:n].max()
    above = 0.0
    for i in range(n):
        state[i] = c[i] > least
        if state[i]:
            above += upper[i]
    last = np.int64(-1)
    for i in range(n):
        if c[i] == least and (last < 0 or above < k):
            if last >= 0:
                state[last] = 1
            last = np.int64(i)
            above += upper[i]
    state[last] = _BASIC
    return last


@compiled
def _narrow(index, theta, error, weight, count, need, keys, mass):
    """Keep the breakpoints at which the slope may turn, as far as their errors tell.

    Returns where it turns at the earliest and at the latest, how many are kept, and what is
    needed of their weights.
    """
    low = _turn(theta, -1.0, error, weight, count, need, keys, mass)
    high = _turn(theta, 1.0, error, weight, count, need, keys, mass)
    near = 0
    for q in range(count):
        if theta[q] + error[q] < low:
            need -= weight[q]
        elif theta[q] - error[q] <= high:
            index[near], weight[near], theta[near] = index[q], weight[q], theta[q]
            near += 1
    return low, high, near, need


@compiled
def dual_simplex(
    scores, upper, p, k, floors, doubt, basis, state, warm, limit,
    values, prices, ray, rest, stalled,
):  # fmt: skip
    """Solve max c·x over 1·x = k, A x ≥ b, 0 ≤ x ≤ u in an optimal vertex.

    Parameters
    ----------
    scores : float64, shape (1 + K, n)
        Finite, |entries| at most about 1 (the caller scales by powers of two).
    upper : float64, shape (n,), > 0
        u.
    p : float64, shape (n,)
        The second target (:func:`perturbation`), which decides ties; zeros leave them to
        Bland's rule.
    k : float, 0 < k < Σ u
    floors : float64, shape (K, any)
        Parts whose sum is b.
    doubt : float64, shape (K,), ≥ 0
        By how much b may be wrong; violations that this explains do not count.
    basis : int64, shape (K + 1,), changed
        Basic columns: a weight's index, or n + j for the slack of floor j. Read when warm.
    state : uint8, shape (n,), changed
        0: on 0; 1: on u; 2: basic. Read when warm. A final basis of the same scores
        is a start for any k and floors.
    warm : int
        0: a start from the target alone. 1: from `basis` and `state`. 2: going on, to the same
        bits, where a call of the same problem ended UNFINISHED.
    limit : int
        Most iterations.
    values : float64, shape (K + 1, 2), filled
        The basic columns' values, double-doubles; a value beyond its bound by rounding only
        is moved onto it.
    prices : float64, shape (K + 1, 2), filled
        (μ, −λ), double-doubles.
    ray : float64, shape (K + 1,), filled
        When INFEASIBLE (θ, y): y ≥ 0 has yᵀb > T_k(Aᵀy), θ is the k-th largest of Aᵀy.
    rest : float64, shape (K + 1, 4), changed
        The right-hand side less the weights on 1, in parts. Read when going on.
    stalled : int64, shape (1,), changed
        Iterations in a row that have left the dual as it was. Read when going on.

    Returns
    -------
    code : int
        OPTIMAL, INFEASIBLE, NUMERICAL (singular basis) or UNFINISHED (`limit` reached).
    iterations : int
    stalls : int
        How many iterations left the dual as it was, by Bland's rule.

    Notes
    -----
    O(nK + K^3) an iteration, the K^3 in double-double; the last vertex takes one more pass.
    """
    n = scores.shape[1]
    m = scores.shape[0]
    K = m - 1
    inv_hi = np.empty((m, m))
    inv_lo = np.empty((m, m))
    inv_size = np.empty((m, m))
    pi_hi = np.empty(m)
    pi_lo = np.empty(m)
    pi_size = np.empty(m)
    nu_hi = np.empty(m)
    nu_lo = np.empty(m)
    nu_size = np.empty(m)
    c_size = np.empty(m)
    p_size = np.empty(m)
    edge_size = np.empty(m)
    rho_hi = np.empty(m)
    rho_lo = np.empty(m)
    rho_size = np.empty(m)
    rest_hi = np.empty(m)
    rest_lo = np.empty(m)
    value_size = np.empty(m)
    r = np.empty(n)
    r_error = np.empty(n)
    alpha = np.empty(n)
    alpha_size = np.empty(n)
    index = np.empty(n + K, np.int64)
    theta = np.empty(n + K)
    error = np.empty(n + K)
    weight = np.empty(n + K)
    keys = np.empty(n + K)
    mass = np.empty(n + K)
    gauge = (K + 4) * _FLOAT
    none = np.int64(-1)

    if warm == 0:
        basis[0] = _fill(scores[0], upper, k, state, theta, error, keys, mass)
        for j in range(K):
            basis[1 + j] = n + j
    if warm != 2:
        stalled[0] = 0
        for j in range(m):
            for part in range(4):
                rest[j, part] = 0.0
        rest[0, 0] = k
        for j in range(K):
            for part in range(floors.shape[1]):
                _accumulate(rest[1 + j], floors[j, part])
        for i in range(n):
            if state[i] == 1:
                _move(rest, scores, i, -upper[i])

    stalls = 0
    bland = stalled[0] > 3 * m
    for iteration in range(limit):
        if not _invert(scores, basis, inv_hi, inv_lo, inv_size):
            return NUMERICAL, iteration, stalls

        # Prices: reduced costs of basic columns are 0.
        _prices(scores, scores[0], basis, inv_hi, inv_lo, pi_hi, pi_lo, pi_size, c_size)
        _prices(scores, p, basis, inv_hi, inv_lo, nu_hi, nu_lo, nu_size, p_size)
        for t in range(m):
            if basis[t] >= n:
                j = 1 + basis[t] - n
                pi_hi[j] = pi_lo[j] = nu_hi[j] = nu_lo[j] = 0.0

        # The signs of the reduced costs put weights on their bounds.
        _rows(scores, 1.0, pi_hi, r, r_error)
        for i in range(n):
            r_error[i] *= gauge
            if state[i] == _BASIC:
                continue
            if abs(r[i]) <= r_error[i]:
                hi, lo, size = _form(scores, i, scores[0, i], pi_hi, pi_lo, inv_hi, c_size)
                r_error[i] = _TIE * size
                if abs(hi) <= r_error[i]:
                    r[i] = 0.0
                    hi, lo, size = _form(scores, i, p[i], nu_hi, nu_lo, inv_hi, p_size)
                    tie = _sign(hi, size)
                    if tie == 0.0:
                        continue
                    wanted = 1 if tie > 0.0 else 0
                else:
                    r[i] = hi
                    r_error[i] += _FLOAT * abs(hi)
                    wanted = 1 if hi > 0.0 else 0
            else:
                wanted = 1 if r[i] > 0.0 else 0
            if wanted != state[i]:
                _move(rest, scores, i, (1.0 - 2.0 * wanted) * upper[i])
                state[i] = wanted

        # Basic values, and the one that leaves.
        for j in range(m):
            rest_hi[j], rest_lo[j] = _total(rest[j])
        leaving = -1
        best = 0.0
        sigma = 1.0
        violation = 0.0
        _basic_values(scores, basis, inv_hi, inv_lo, rest_hi, rest_lo, values, value_size)
        for t in range(m):
            hi, lo, size = values[t, 0], values[t, 1], value_size[t]
            norm = 0.0
            for j in range(m):
                norm += inv_hi[t, j] * inv_hi[t, j]
                if j > 0:
                    size += abs(inv_hi[t, j]) * doubt[j - 1]
            if not (np.isfinite(hi) and np.isfinite(size) and np.isfinite(norm)):
                return NUMERICAL, iteration, stalls
            beyond = -hi
            side = 1.0
            most = upper[basis[t]] if basis[t] < n else 0.0
            if hi > 0.5 * most and basis[t] < n:
                beyond, _ = _add(hi, lo, -most, 0.0)
                side = -1.0
            if beyond > size:
                merit = beyond * beyond / norm
                if bland:
                    merit = 1.0 / (1.0 + basis[t])
                if merit > best or leaving < 0:
                    best, leaving, sigma, violation = merit, t, side, beyond
            elif beyond > -size:
                hi, lo = (0.0, 0.0) if side > 0.0 else (most, 0.0)
            values[t, 0], values[t, 1] = hi, lo
        if leaving < 0:
            for j in range(m):
                prices[j, 0], prices[j, 1] = pi_hi[j], pi_lo[j]
            return OPTIMAL, iteration, stalls

        # Breakpoints along the edge π + θ σ ρ.
        for j in range(m):
            rho_hi[j] = -sigma * inv_hi[leaving, j]  # _form subtracts
            rho_lo[j] = -sigma * inv_lo[leaving, j]
            rho_size[j] = inv_size[leaving, j]
        for t in range(m):
            edge_size[t] = 0.0
            for j in range(m):
                edge_size[t] += abs(rho_hi[j] * _entry(scores, basis[t], j))
        _rows(scores, 0.0, rho_hi, alpha, alpha_size)
        # Together these change the slope by less than the line search tolerates. As pivots
        # they would ruin the basis; where they cross the threshold, they flip at the next step.
        negligible = _EARLY * violation / n
        count = np.int64(0)  # a plain 0 has a type of its own, for which _turn is compiled too
        for i in range(n):
            if state[i] == _BASIC:
                continue
            a = alpha[i]
            # Toward 0 from above where on 1, from below where on 0.
            if abs(a) > 1e-3 * alpha_size[i]:
                if abs(a) * upper[i] <= negligible or (a > 0.0) != (state[i] == 1):
                    continue
                a_error = gauge * alpha_size[i]
            else:
                a, _, size = _form(scores, i, 0.0, rho_hi, rho_lo, inv_hi, edge_size)
                small = abs(a) <= _PIVOT * size or abs(a) * upper[i] <= negligible
                if small or (a > 0.0) != (state[i] == 1):
                    continue
                alpha[i] = a
                a_error = _FLOAT * abs(a)
            a = abs(a)
            index[count] = i
            theta[count] = abs(r[i]) / a
            error[count] = (r_error[i] + theta[count] * a_error) / a + _FLOAT * theta[count]
            weight[count] = a * upper[i]
            count += 1
        for j in range(K):
            basic = False
            for t in range(m):
                basic = basic or basis[t] == n + j
            a = -rho_hi[1 + j]  # the slack's entry of the pivot row is that of −e_j, negated
            if basic or not a > _PIVOT * rho_size[1 + j]:
                continue
            price = max(0.0, -pi_hi[1 + j])
            index[count] = n + j
            theta[count] = price / a
            error[count] = 2.0 * _FLOAT * theta[count]
            weight[count] = np.inf
            count += 1

        # Where the slope turns; then what float64 can't order, in double-double; then ties.
        need = violation * (1.0 - _EARLY)
        if bland:
            need = 0.0
        low, high, count, need = _narrow(index, theta, error, weight, count, need, keys, mass)
        if low == np.inf:
            ray[0] = -rho_hi[0]
            for j in range(K):
                ray[1 + j] = max(0.0, rho_hi[1 + j])
            return INFEASIBLE, iteration, stalls
        zero = low <= 0.0
        if count > 1:
            reference = 0.5 * (max(low, 0.0) + high)
            for q in range(count):
                i = index[q]
                if i >= n:
                    j = 1 + i - n
                    hi, lo, size = -pi_hi[j], -pi_lo[j], pi_size[j]
                    a_hi, a_lo = -rho_hi[j], -rho_lo[j]
                else:
                    hi, lo, size = _form(scores, i, scores[0, i], pi_hi, pi_lo, inv_hi, c_size)
                    a_hi, a_lo, _ = _form(scores, i, 0.0, rho_hi, rho_lo, inv_hi, edge_size)
                    if abs(hi) <= _TIE * size:
                        hi = lo = 0.0
                hi, lo = _divide(hi, lo, a_hi, a_lo)
                if hi < 0.0:
                    hi = lo = 0.0
                theta[q], _ = _add(hi, lo, -reference, 0.0)
                error[q] = _TIE * (abs(hi) + size / abs(a_hi))
            _, _, count, need = _narrow(index, theta, error, weight, count, need, keys, mass)
            count = max(count, 1)
        entering = index[0]
        tie = 1.0
        if count > 1 or zero:
            for q in range(count):
                i = index[q]
                if i >= n:
                    j = 1 + i - n
                    theta[q] = _sign(nu_hi[j], nu_size[j]) / rho_hi[j]
                else:
                    hi, lo, size = _form(scores, i, p[i], nu_hi, nu_lo, inv_hi, p_size)
                    theta[q] = _sign(hi, size) / alpha[i]
                if zero:  # of the second target alone: not negative but for rounding
                    theta[q] = max(0.0, theta[q])
                error[q] = 0.0
            tie = _turn(theta, 1.0, error, weight, count, need, keys, mass)
            entering = none
            for q in range(count):
                if theta[q] == tie and (entering < 0 or index[q] < entering):
                    entering = index[q]
            if entering < 0:
                entering = index[0]
        if zero and tie == 0.0:
            stalls += 1
            stalled[0] += 1
        else:
            stalled[0] = 0
        bland = stalled[0] > 3 * m

        # Exchange the two.
        i = basis[leaving]
        if i < n:
            state[i] = 1 if sigma < 0.0 else 0
            if state[i] == 1:
                _move(rest, scores, i, -upper[i])
        if entering < n:
            if state[entering] == 1:
                _move(rest, scores, entering, upper[entering])
            state[entering] = _BASIC
        basis[leaving] = entering
    return UNFINISHED, limit, stalls


@compiled
def combined_score(scores, i, lam):
    """c_i + λ·A_i as a double-double."""
    hi, lo = scores[0, i], 0.0
    for j in range(1, scores.shape[0]):
        f, e = _two_prod(lam[j - 1], scores[j, i])
        hi, lo = _add(hi, lo, f, e)
    return hi, lo


@compiled
def combined_gap(scores, upper, lam, mu_hi, mu_lo, x):
    """Σ u max(0, r) − x r, r = c + λ·A − μ, double-double where that matters; ≥ 0.

    upper, x : float64, shape (n,), 0 ≤ x ≤ u.
    """
    n = scores.shape[1]
    m = scores.shape[0]
    total = 0.0
    value = np.empty(n)
    size = np.empty(n)
    weights = np.empty(m)
    weights[0] = mu_hi
    for j in range(1, m):
        weights[j] = -lam[j - 1]
    _rows(scores, 1.0, weights, value, size)
    for i in range(n):
        r = value[i]
        if (x[i] > 0.0 and x[i] < upper[i]) or abs(r) <= (m + 3) * _FLOAT * size[i]:
            hi, lo = combined_score(scores, i, lam)
            r, _ = _add(hi, lo, -mu_hi, -mu_lo)
        if r > 0.0:
            total += (upper[i] - x[i]) * r
        elif r < 0.0:
            total -= x[i] * r
    return total


@compiled
def least_combined(scores, upper, lam, x):
    """Least double-double c + λ·A among the columns with x = u; the largest of all if none."""
    n = scores.shape[1]
    m = scores.shape[0]
    value = np.empty(n)
    size = np.empty(n)
    weights = np.empty(m)
    weights[0] = 0.0
    for j in range(1, m):
        weights[j] = -lam[j - 1]
    _rows(scores, 1.0, weights, value, size)
    sign = -1.0
    for i in range(n):
        if x[i] >= upper[i]:
            sign = 1.0
            break
    bound = np.inf
    for i in range(n):
        size[i] *= (m + 3) * _FLOAT
        if sign < 0.0 or x[i] >= upper[i]:
            bound = min(bound, sign * value[i] + size[i])
    best_hi, best_lo = np.inf, 0.0
    for i in range(n):
        if (sign < 0.0 or x[i] >= upper[i]) and sign * value[i] - size[i] <= bound:
            hi, lo = combined_score(scores, i, lam)
            hi, lo = sign * hi, sign * lo
            if hi < best_hi or (hi == best_hi and lo < best_lo):
                best_hi, best_lo = hi, lo
    return sign * best_hi, sign * best_lo
