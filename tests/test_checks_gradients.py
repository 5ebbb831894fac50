"""Answers to the exercises of notebook 03: test_checks.py takes them all to the checks."""

import torch


def _slopes_by_autograd(probs):
    logits = probs.log().requires_grad_()
    logp = logits.log_softmax(-1)
    return torch.stack([torch.autograd.grad(x, logits, retain_graph=True)[0] for x in logp])


def _variance(p, r, b):
    estimates = (r - b)[:, None] * (torch.eye(len(p)) - p)
    return (p @ (estimates - p @ estimates).square()).sum()


def _variance_by_loop(p, r, b):
    estimates = [(ri - b) * (torch.eye(len(p))[i] - p) for i, ri in enumerate(r)]
    mean = sum(pi * e for pi, e in zip(p, estimates))
    return float(sum(pi * (e - mean).square().sum() for pi, e in zip(p, estimates)))


def _unweighted(p, r, b):
    return ((r - b)[:, None] * (torch.eye(len(p)) - p)).var(0, unbiased=False).sum()


def _errors(rewards, values, after_end=0.0, use_next=True):
    following = [*values[1:], after_end] if use_next else [0.0] * len(values)
    return [float(r + v2 - v) for r, v, v2 in zip(rewards, values, following)]


def _back(errors, lam):
    out, ahead = [], 0.0
    for error in reversed(errors):
        ahead = error + lam * ahead
        out.insert(0, ahead)
    return out


def _gae(rewards, values, lam):
    return _back(_errors(rewards, values), lam)


def _gae_by_powers(rewards, values, lam):
    errors = torch.tensor(_errors(rewards, values))
    n = len(errors)
    powers = [[lam ** (k - t) if k >= t else 0.0 for k in range(n)] for t in range(n)]
    return torch.tensor(powers) @ errors


def _forwards(rewards, values, lam):
    return _back(_errors(rewards, values)[::-1], lam)[::-1]


def _last_only(rewards, values, lam):
    return _gae([0.0] * (len(rewards) - 1) + [float(rewards[-1])], values, lam)


RIGHT = {
    "log_slopes": [lambda p: torch.eye(len(p)) - p, _slopes_by_autograd],
    "gradient_variance": [_variance, _variance_by_loop],
    "gae": [_gae, _gae_by_powers],
    "faulty_line": [2, 4 - 2],
}

WRONG = {
    "log_slopes": {
        "of p": lambda p: p[:, None] * (torch.eye(len(p)) - p),
        "transposed": lambda p: torch.eye(len(p)) - p[:, None],
        "sign": lambda p: p - torch.eye(len(p)),
        "own logit alone": lambda p: torch.eye(len(p)),
        "in the probabilities": lambda p: torch.diag(1 / p),
        "one row": lambda p: 1 - p,
        "crashes": lambda p: p.nonsense,
    },
    "gradient_variance": {
        "mean square": lambda p, r, b: (
            p @ ((r - b)[:, None] * (torch.eye(len(p)) - p)).square()
        ).sum(),
        "root": lambda p, r, b: _variance(p, r, b).sqrt(),
        "no baseline": lambda p, r, b: _variance(p, r, 0.0),
        "unweighted": _unweighted,
        "mean over logits": lambda p, r, b: _variance(p, r, b) / len(p),
        "added": lambda p, r, b: _variance(p, r, -b),
        "one a logit": lambda p, r, b: p,
        "nothing": lambda p, r, b: None,
    },
    "gae": {
        "value after the end": lambda r, v, lam: _back(_errors(r, v, float(v[-1])), lam),
        "always 1": lambda r, v, lam: _gae(r, v, 1.0),
        "always 0": lambda r, v, lam: _gae(r, v, 0.0),
        "forwards": _forwards,
        "no next value": lambda r, v, lam: _back(_errors(r, v, use_next=False), lam),
        "targets": lambda r, v, lam: torch.tensor(_gae(r, v, lam)) + v,
        "sign": lambda r, v, lam: [-a for a in _gae(r, v, lam)],
        "last reward only": _last_only,
        "no rewards": lambda r, v, lam: _gae(torch.zeros(3), v, lam),
        "one number": lambda r, v, lam: 0.0,
    },
    "faulty_line": {"one": 1, "ratio": 4, "clip": 5, "minimum": 6, "outside": 9, "words": "line 2"},
}

LESSONS = {
    ("log_slopes", "of p"): "divided by p",
    ("log_slopes", "transposed"): "rows and columns",
    ("log_slopes", "own logit alone"): "add up to 1",
    ("gradient_variance", "mean square"): "subtract the mean",
    ("gradient_variance", "root"): "that is the root",
    ("gradient_variance", "no baseline"): "Subtract it from the rewards",
    ("gradient_variance", "unweighted"): "with its probability",
    ("gradient_variance", "added"): "the baseline is added",
    ("gae", "value after the end"): "after the last token",
    ("gae", "always 1"): "summed whole",
    ("gae", "always 0"): "own error only",
    ("gae", "forwards"): "from the front",
    ("gae", "no next value"): "what comes next is missing",
    ("gae", "targets"): "advantage \\+ value",
    ("gae", "last reward only"): "before the end",
    ("faulty_line", "minimum"): "to be raised",
}
