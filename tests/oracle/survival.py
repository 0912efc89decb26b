"""Survival of the paying accounts: Kaplan-Meier and the shifted beta-geometric model (Fader and Hardie 2007), by definitions.md § 13.

The subjects and the product limit are SQL in survival.sql; here are the maximum of the likelihood, found by Nelder-Mead over (ln α, ln β),
and the sums over S(t). Nothing of it is taken from the program.
"""

from math import exp, fsum, log

LOW, HIGH = log(1e-6), log(1e6)


def exposures(deaths, censored):
    """Of each age t ≥ 1 (t − 1, how many came to it, how many of them stayed)."""
    oldest = max([*deaths, *censored], default=0)
    at_risk, rows = 0, []
    for age in range(oldest, 0, -1):
        at_risk += deaths.get(age, 0) + censored.get(age, 0)
        rows.append((age - 1, at_risk, at_risk - deaths.get(age, 0)))
    return rows[::-1]


def log_likelihood(alpha, beta, deaths, censored, exposed=None):
    """ln L of deaths and censored, {age: number}. Of those who come to age t a share α/(α+β+t−1) dies: that is P(T = t) / S(t−1) of the model."""
    exposed = exposed or exposures(deaths, censored)
    return sum(deaths.values()) * log(alpha) + sum(stayed * log(beta + t) - came * log(alpha + beta + t) for t, came, stayed in exposed)


def nelder_mead(f, start, step, near):
    """The point of the least f, and f there; sought until the simplex is no wider than `near`."""
    points = [list(start) for _ in range(3)]
    points[1][0] += step
    points[2][1] += step
    simplex = sorted(((f(p), p) for p in points), key=lambda x: x[0])
    for _ in range(4000):
        (best, b), (_, g), (worst, w) = simplex
        if max(abs(b[i] - p[i]) for _, p in simplex for i in (0, 1)) < near:
            break
        centre = [(b[i] + g[i]) / 2 for i in (0, 1)]
        at = lambda k: [centre[i] + k * (w[i] - centre[i]) for i in (0, 1)]
        reflected = at(-1)
        value = f(reflected)
        if value < best:
            further = at(-2)
            simplex[2] = min((value, reflected), (f(further), further), key=lambda x: x[0])
        elif value < simplex[1][0]:
            simplex[2] = (value, reflected)
        else:
            nearer = at(-0.5) if value < worst else at(0.5)
            inner = f(nearer)
            if inner < min(value, worst):
                simplex[2] = (inner, nearer)
            else:
                moved = [[(p[i] + b[i]) / 2 for i in (0, 1)] for _, p in simplex[1:]]
                simplex = [simplex[0]] + [(f(p), p) for p in moved]
        simplex.sort(key=lambda x: x[0])
    return simplex[0][1], simplex[0][0]


def limit(deaths, censored):
    """The greater of ln L where α and β go to infinity (all churn at one rate) and where they go to 0 (who stays once, stays for ever)."""
    events, lived = sum(deaths.values()), sum(age * n for part in (deaths, censored) for age, n in part.items())
    term = lambda n, p: n * log(p) if n else 0.0
    result = term(events, events / lived) + term(lived - events, 1 - events / lived)
    if set(deaths) == {1}:
        exposed = events + sum(n for age, n in censored.items() if age > 0)
        result = max(result, term(events, events / exposed) + term(exposed - events, 1 - events / exposed))
    return result


def fitted(deaths, censored):
    """(α, β, ln L) of the maximum inside 1e-6 … 1e6, or None: nobody churned or nobody stayed for once, or no maximum but a limit that is as likely."""
    exposed = exposures(deaths, censored)
    if not deaths or not any(stayed for _, _, stayed in exposed):
        return None

    def negative(p):
        if not (LOW - 1 < p[0] < HIGH + 1 and LOW - 1 < p[1] < HIGH + 1):
            return float("inf")
        return -log_likelihood(exp(p[0]), exp(p[1]), deaths, censored, exposed)

    best = min((nelder_mead(negative, start, 0.7, 0.02) for start in ((0.0, 1.0), (-3.0, 0.0))), key=lambda x: x[1])
    best = nelder_mead(negative, best[0], 0.05, 1e-8)
    (a, b), value = best
    if not (LOW < a < HIGH and LOW < b < HIGH) or -value <= limit(deaths, censored) + 1e-9 * abs(value):
        return None
    return exp(a), exp(b), -value


def lifetime(alpha, beta, discount):
    """Σ_{t≥0} S(t)/(1+δ)^t term by term, until what is left (at most the last term's geometric series) is nothing. Without discounting by its closed form."""
    if discount <= 0:
        return (alpha + beta - 1) / (alpha - 1) if alpha > 1 else None
    term, t = 1.0, 0
    terms = []
    while t < 3_000_000 and term / discount > 1e-16:
        terms.append(term)
        term *= (beta + t) / (alpha + beta + t) / (1 + discount)
        t += 1
    return fsum(terms)


def insert(con, table, rows):
    """Rows into a table of the same columns, as lists: executemany is slow."""
    for i in range(0, len(rows), 20_000):
        columns = [list(column) for column in zip(*rows[i:i + 20_000])]
        con.execute(f"INSERT INTO {table} SELECT {', '.join('unnest(?)' for _ in columns)}", columns)


def onboarding_medians(con):
    """onboarding_medians(period_idx, dimension, member, median_days, onboardings): the smallest duration with S ≤ 0.5, to 1e-12."""
    groups = {}
    for *key, days, completed, censored in con.execute("SELECT period_idx, dimension, member, days, completed, censored FROM onboarding_durations ORDER BY days").fetchall():
        groups.setdefault(tuple(key), []).append((days, completed, censored))
    rows = []
    for key, durations in groups.items():
        subjects = at_risk = sum(completed + censored for _, completed, censored in durations)
        left, median = 1.0, None
        for days, completed, censored in durations:
            left *= 1 - completed / at_risk
            at_risk -= completed + censored
            if left <= 0.5 + 1e-12:
                median = float(days)
                break
        rows.append((*key, median, subjects))
    con.execute("CREATE TABLE onboarding_medians(period_idx INTEGER, dimension VARCHAR, member VARCHAR, median_days DOUBLE, onboardings BIGINT)")
    insert(con, "onboarding_medians", rows)


def fit_all(con, discount_rate, periods_per_year=12):
    """survival_fit(period_idx, dimension, member, alpha, beta, log_likelihood, expected_lifetime) of every group of survival_counts."""
    groups = {}
    for period, dimension, member, age, churned, censored in con.execute(
        "SELECT period_idx, dimension, member, age, churned, censored FROM survival_counts WHERE churned > 0 OR censored > 0").fetchall():
        deaths, alive = groups.setdefault((period, dimension, member), ({}, {}))
        if churned:
            deaths[age] = churned
        if censored:
            alive[age] = censored
    delta = (1 + discount_rate) ** (1 / periods_per_year) - 1
    known, rows = {}, []
    for key, (deaths, alive) in groups.items():
        data = (tuple(sorted(deaths.items())), tuple(sorted(alive.items())))
        if data not in known:
            found = fitted(deaths, alive)
            known[data] = (None, None, None, None) if found is None else (*found, lifetime(found[0], found[1], delta))
        rows.append((*key, *known[data]))
    con.execute("CREATE TABLE survival_fit(period_idx INTEGER, dimension VARCHAR, member VARCHAR, alpha DOUBLE, beta DOUBLE, log_likelihood DOUBLE, expected_lifetime DOUBLE)")
    insert(con, "survival_fit", rows)
    # S(t) of the model at every age asked for
    cells = con.execute("SELECT period_idx, dimension, member, ages, alpha, beta FROM survival_groups JOIN survival_fit USING (period_idx, dimension, member) WHERE alpha IS NOT NULL").fetchall()
    con.execute("CREATE TABLE survival_model(period_idx INTEGER, dimension VARCHAR, member VARCHAR, age BIGINT, projected DOUBLE)")
    out = []
    for period, dimension, member, ages, alpha, beta in cells:
        survival = 1.0
        for age in range(ages + 1):
            out.append((period, dimension, member, age, survival))
            survival *= (beta + age) / (alpha + beta + age)
    insert(con, "survival_model", out)


if __name__ == "__main__":
    # Fader and Hardie (2007), table 1: 1000 customers, seven years, "High End" and "Regular".
    for name, left, printed in (("high end", [1000, 869, 743, 653, 593, 551, 517, 491], (0.668, 3.806)), ("regular", [1000, 631, 468, 382, 326, 289, 262, 241], (0.704, 1.182))):
        deaths = {age: left[age - 1] - left[age] for age in range(1, 8)}
        alpha, beta, value = fitted(deaths, {7: left[7]})
        print(f"{name}: alpha {alpha:.3f} beta {beta:.3f} (printed {printed[0]}, {printed[1]}), ln L {value:.1f}, DEL(10 %) {lifetime(alpha, beta, 0.1):.3f}")
