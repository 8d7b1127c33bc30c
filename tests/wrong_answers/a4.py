"""Wrong answers to Assignment 4, the early bird."""

from assignments import Wrong

from wrong_answers import only
from wrong_answers.typed import typed_again

Q1 = {"a4-q1-check-1": 2, "a4-q1-check-2": 1, "a4-q1-hidden-1": 2, "a4-q1-hidden-2": 3}
Q2 = {"a4-q2-check-1": 2, "a4-q2-check-2": 1, "a4-q2-hidden-1": 2, "a4-q2-hidden-2": 3}
Q3 = {"a4-q3-check-1": 2, "a4-q3-check-2": 1, "a4-q3-hidden-1": 2, "a4-q3-hidden-2": 3}
Q4 = {"a4-q4-check-1": 2, "a4-q4-check-2": 1, "a4-q4-hidden-1": 2, "a4-q4-hidden-2": 3}
Q5 = {"a4-q5-check-1": 2, "a4-q5-check-2": 2, "a4-q5-hidden-1": 2, "a4-q5-hidden-2": 4}
Q6 = {"a4-q6-check-1": 2, "a4-q6-check-2": 1, "a4-q6-hidden-1": 2, "a4-q6-hidden-2": 3}

WRONG = [
    # Question 1
    Wrong("highest bit first", "a4-q1-pack", "2 ** torch", "128 // 2 ** torch", Q1),
    Wrong(
        "a last byte that is not full is lost",
        "a4-q1-pack",
        "-z.shape[1] % 8",
        "-(z.shape[1] % 8)",
        Q1,
    ),
    Wrong(
        "on the line counts as active",
        "a4-q1-pack",
        "(z > 0)",
        "(z >= 0)",
        only(Q1, "check-1", "hidden-1"),
    ),
    Wrong(
        "the last byte is filled up with ones",
        "a4-q1-pack",
        "(0, -z.shape[1] % 8))",
        "(0, -z.shape[1] % 8), value=1)",
        Q1,
    ),
    Wrong(
        "numpy's packbits",
        "a4-q1-pack",
        "",
        """
def pack(z):
    import numpy as np
    return torch.from_numpy(np.packbits((z > 0).numpy(), axis=1, bitorder="little"))
""",
        Q1,
    ),
    Wrong(
        "the specification, typed again",
        "a4-q1-pack",
        "",
        typed_again("a4", 1),
        only(Q1, "hidden-2"),
    ),
    Wrong(
        "on the line counts as active, and the specification made to agree",
        "a4-q1-pack",
        "",
        """
def pack(z):
    bits = F.pad((z >= 0).to(torch.uint8), (0, -z.shape[1] % 8)).reshape(len(z), -1, 8)
    return (bits * 2 ** torch.arange(8, dtype=torch.uint8)).sum(dim=2, dtype=torch.uint8)
pack_spec = lambda z: pack(z)
""",
        only(Q1, "check-1", "hidden-1"),
    ),
    Wrong(
        "highest bit first, and the specification made to agree",
        "a4-q1-pack",
        "",
        """
def pack(z):
    bits = F.pad((z > 0).to(torch.uint8), (0, -z.shape[1] % 8)).reshape(len(z), -1, 8)
    return (bits * (128 // 2 ** torch.arange(8))).sum(dim=2).to(torch.uint8)
pack_spec = lambda z: pack(z)
""",
        only(Q1, "check-1", "hidden-1", "hidden-2"),
    ),
    Wrong(
        "a call of the specification",
        "a4-q1-pack",
        "",
        """
def pack(z):
    return pack_spec(z)
""",
        Q1,
    ),
    # Question 2
    Wrong(
        "not normalised",
        "a4-q2-distance",
        "ones / (len(p) * width)",
        "ones / 1",
        Q2,
    ),
    Wrong(
        "divided by the bits of the bytes",
        "a4-q2-distance",
        "len(p) * width",
        "8 * p.numel()",
        only(Q2, "check-1", "check-2", "hidden-1"),
    ),
    Wrong(
        "divided by the number of points alone",
        "a4-q2-distance",
        "len(p) * width",
        "len(p)",
        Q2,
    ),
    Wrong(
        "all bits alike",
        "a4-q2-distance",
        "",
        """
def distance(a, b, widths):
    ones = 0
    for p, q in zip(a, b):
        ones += sum((((p ^ q) >> i) & 1).sum().item() for i in range(8))
    return ones / (len(a[0]) * sum(widths))
""",
        Q2,
    ),
    Wrong(
        "bytes that differ in place of bits",
        "a4-q2-distance",
        "sum(((changed >> i) & 1).sum().item() for i in range(8))",
        "8 * (changed != 0).sum().item()",
        Q2,
    ),
    Wrong(
        "the specification's loops, typed again",
        "a4-q2-distance",
        "sum(((changed >> i) & 1).sum().item() for i in range(8))",
        'sum(bin(byte).count("1") for row in changed.tolist() for byte in row)',
        only(Q2, "hidden-2"),
    ),
    Wrong(
        "the specification, typed again",
        "a4-q2-distance",
        "",
        typed_again("a4", 2),
        only(Q2, "hidden-2"),
    ),
    Wrong(
        "a call of the library",
        "a4-q2-distance",
        "",
        """
def distance(a, b, widths):
    return earlybird.distance(a, b)
""",
        Q2,
    ),
    # Question 3
    Wrong(
        "a threshold on a half-full queue, as Algorithm 1 is printed",
        "a4-q3-emergence",
        "",
        """
def emergence(values, length, eps):
    run = 0
    for t, value in enumerate(values, start=1):
        run = run + 1 if value < eps else 0
        if run == min(length, t):
            return t
    return None
""",
        Q3,
    ),
    Wrong("the first distance counts as epoch 0", "a4-q3-emergence", "start=1", "start=0", Q3),
    Wrong(
        "equal to the threshold counts as below it",
        "a4-q3-emergence",
        "value < eps",
        "value <= eps",
        only(Q3, "hidden-1"),
    ),
    Wrong(
        "what is not a number counts as small",
        "a4-q3-emergence",
        "run + 1 if value < eps else 0",
        "0 if value >= eps else run + 1",
        only(Q3, "hidden-1"),
    ),
    Wrong(
        "small distances need not stand side by side",
        "a4-q3-emergence",
        "run + 1 if value < eps else 0",
        "run + (value < eps)",
        Q3,
    ),
    Wrong(
        "the mean of the queue",
        "a4-q3-emergence",
        "",
        """
def emergence(values, length, eps):
    for t in range(length, len(values) + 1):
        if sum(values[t - length : t]) / length < eps:
            return t
    return None
""",
        only(Q3, "check-2", "hidden-1", "hidden-2"),
    ),
    Wrong(
        "the specification, typed again",
        "a4-q3-emergence",
        "",
        typed_again("a4", 3),
        only(Q3, "hidden-2"),
    ),
    Wrong(
        "the whole queue looked at again after each epoch",
        "a4-q3-emergence",
        "",
        """
def emergence(values, length, eps):
    from collections import deque
    last = deque(maxlen=length)
    for t, value in enumerate(values, start=1):
        last.append(value)
        if len(last) == length and all(v < eps for v in last):
            return t
    return None
""",
        only(Q3, "hidden-2"),
    ),
    Wrong(
        "right: an integer of numpy is an epoch, too",
        "a4-q3-emergence",
        "",
        """
def emergence(values, length, eps):
    import numpy as np
    small = np.concatenate([[0], np.cumsum(np.array(values) < eps)])
    full = np.flatnonzero(small[length:] - small[:-length] == length)
    return full[0] + length if len(full) else None
""",
        {},
    ),
    Wrong(
        "a call of the specification",
        "a4-q3-emergence",
        "",
        """
def emergence(values, length, eps):
    return emergence_spec(values, length, eps)
""",
        Q3,
    ),
    # Question 4
    Wrong(
        "a threshold on a half-full queue",
        "a4-q4-bird",
        "len(last) == length and ",
        "",
        only(Q4, "hidden-1"),
    ),
    Wrong(
        "compared with the untrained network",
        "a4-q4-bird",
        "        before = now\n",
        "",
        only(Q4, "check-1", "check-2", "hidden-1"),
    ),
    Wrong(
        "trains to the end, and tells E then",
        "a4-q4-bird",
        "",
        """
def early_bird(net, epoch, look, far, length, eps, most):
    before, values, E = look(net), [], None
    for t in range(1, most + 1):
        net = epoch(net, t)
        now = look(net)
        values.append(far(before, now))
        before = now
        last = values[-length:]
        if E is None and len(last) == length and all(value < eps for value in last):
            E = t
    return net, E, values
""",
        only(Q4, "check-1", "check-2", "hidden-1"),
    ),
    Wrong(
        "epochs counted from 0",
        "a4-q4-bird",
        "epoch(net, t)",
        "epoch(net, t - 1)",
        Q4,
    ),
    Wrong(
        "the untrained network left out",
        "a4-q4-bird",
        "",
        """
def early_bird(net, epoch, look, far, length, eps, most):
    before, values = None, []
    for t in range(1, most + 1):
        net = epoch(net, t)
        now = look(net)
        if before is not None:
            values.append(far(before, now))
        before = now
        last = values[-length:]
        if len(last) == length and all(value < eps for value in last):
            return net, t, values
    return net, None, values
""",
        Q4,
    ),
    Wrong(
        "fires at the first two small steps, wherever they are",
        "a4-q4-bird",
        "last = values[-length:]",
        "last = sorted(values)[:length]",
        only(Q4, "check-1", "hidden-1", "hidden-2"),
    ),
    Wrong(
        "every code kept, and all of them compared anew",
        "a4-q4-bird",
        "",
        """
def early_bird(net, epoch, look, far, length, eps, most):
    codes = [look(net)]
    for t in range(1, most + 1):
        net = epoch(net, t)
        codes.append(look(net))
        values = [far(a, b) for a, b in zip(codes, codes[1:])]
        last = values[-length:]
        if len(last) == length and all(value < eps for value in last):
            return net, t, values
    return net, None, values
""",
        only(Q4, "hidden-2"),
    ),
    Wrong(
        "what is not a number counts as small",
        "a4-q4-bird",
        "all(value < eps for value in last)",
        "not any(value >= eps for value in last)",
        only(Q4, "hidden-1"),
    ),
    Wrong(
        "the specification, typed again",
        "a4-q4-bird",
        "",
        typed_again("a4", 4),
        only(Q4, "hidden-2"),
    ),
    Wrong(
        "a call of the specification",
        "a4-q4-bird",
        "",
        """
def early_bird(net, epoch, look, far, length, eps, most):
    return early_bird_spec(net, epoch, look, far, length, eps, most)
""",
        Q4,
    ),
    Wrong(
        "right: the rule of Question 3, asked again after each epoch",
        "a4-q4-bird",
        "",
        """
def early_bird(net, epoch, look, far, length, eps, most):
    before, values = look(net), []
    for t in range(1, most + 1):
        net = epoch(net, t)
        now = look(net)
        values.append(far(before, now))
        before = now
        if emergence(values, length, eps) is not None:
            return net, t, values
    return net, None, values
""",
        {},
    ),
    # Question 5
    Wrong("one unit too many", "a4-q5-cut", "len(size) - count]", "len(size) - count - 1]", Q5),
    Wrong(
        "a threshold, so that ties go or stay together",
        "a4-q5-cut",
        "kept.append(order[: len(size) - count].sort().values)",
        "kept.append((size >= size[order[len(size) - count - 1]]).nonzero()[:, 0])",
        only(Q5, "check-1", "hidden-1"),
    ),
    Wrong(
        "the largest units go",
        "a4-q5-cut",
        "descending=True",
        "descending=False",
        Q5,
    ),
    Wrong(
        "sizes that a factor changes: rows alone",
        "a4-q5-cut",
        "W.norm(dim=1) * V.norm(dim=0)",
        "W.norm(dim=1)",
        Q5,
    ),
    Wrong(
        "sizes of the second layer taken after the cut of the first",
        "a4-q5-cut",
        "",
        """
def cut(net, gone):
    weights, biases = map(list, net)
    for layer, count in enumerate(gone):
        size = weights[layer].norm(dim=1) * weights[layer + 1].norm(dim=0)
        order = size.argsort(descending=True, stable=True)
        rows = order[: len(size) - count].sort().values
        weights[layer] = weights[layer][rows]
        biases[layer] = biases[layer][rows]
        weights[layer + 1] = weights[layer + 1][:, rows]
    return weights, biases
""",
        only(Q5, "check-2", "hidden-1"),
    ),
    Wrong(
        "units in the order of their sizes",
        "a4-q5-cut",
        ".sort().values",
        "",
        only(Q5, "check-2", "hidden-1", "hidden-2"),
    ),
    Wrong(
        "biases stay",
        "a4-q5-cut",
        "biases[layer] = biases[layer][rows]",
        "pass",
        Q5,
    ),
    Wrong(
        "cut in place",
        "a4-q5-cut",
        "weights, biases = map(list, net)",
        "weights, biases = net",
        only(Q5, "check-2", "hidden-1", "hidden-2"),
    ),
    Wrong(
        "of equal sizes the last stay, and the specification made to agree",
        "a4-q5-cut",
        "",
        """
def cut(net, gone):
    weights, biases = map(list, net)
    kept = []
    for W, V, count in zip(weights, weights[1:], gone):
        size = W.norm(dim=1) * V.norm(dim=0)
        kept.append(size.argsort(stable=True)[count:].sort().values)
    for layer, rows in enumerate(kept):
        weights[layer] = weights[layer][rows]
        biases[layer] = biases[layer][rows]
        weights[layer + 1] = weights[layer + 1][:, rows]
    return weights, biases
cut_spec = lambda net, gone: cut(net, gone)
""",
        only(Q5, "check-1", "hidden-1"),
    ),
    Wrong(
        "the specification, typed again",
        "a4-q5-cut",
        "",
        typed_again("a4", 5),
        only(Q5, "hidden-2"),
    ),
    Wrong(
        "a call of the specification",
        "a4-q5-cut",
        "",
        """
def cut(net, gone):
    return cut_spec(net, gone)
""",
        Q5,
    ),
    Wrong(
        "right: unit after unit goes, with helpers that have names of the checks",
        "a4-q5-cut",
        "",
        """
def left(size, count):
    stay = list(range(len(size)))
    for _ in range(count):
        stay.remove(min(stay, key=lambda k: (size[k], -k)))
    return stay
def compare(W, V):
    return [(W[k].norm() * V[:, k].norm()).item() for k in range(len(W))]
def cut(net, gone):
    W, b = net
    stay = [left(compare(A, B), count) for A, B, count in zip(W, W[1:], gone)]
    stay = [range(W[0].shape[1]), *stay, range(len(W[-1]))]
    stay = [torch.tensor(rows) for rows in stay]
    weights = [A[rows][:, columns] for A, columns, rows in zip(W, stay, stay[1:])]
    return weights, [v[rows] for v, rows in zip(b, stay[1:])]
""",
        {},
    ),
    # Question 6
    Wrong(
        "training begins anew at epoch 1",
        "a4-q6-retrain",
        "range(E + 1, T + 1)",
        "range(1, T + 1)",
        only(Q6, "check-1", "check-2", "hidden-1"),
    ),
    Wrong(
        "the last dense epoch done twice",
        "a4-q6-retrain",
        "range(E + 1, T + 1)",
        "range(max(E, 1), T + 1)",
        only(Q6, "check-1", "check-2", "hidden-1"),
    ),
    Wrong(
        "dense epochs for nothing",
        "a4-q6-retrain",
        "(E * before + (T - E) * after)",
        "((T - E) * after)",
        Q6,
    ),
    Wrong(
        "units counted in place of weights",
        "a4-q6-retrain",
        "W.numel()",
        "len(W)",
        Q6,
    ),
    Wrong(
        "biases counted, too",
        "a4-q6-retrain",
        "sum(W.numel() for W in n[0])",
        "sum(v.numel() for part in n for v in part)",
        Q6,
    ),
    Wrong(
        "cut at the end, after a dense training",
        "a4-q6-retrain",
        "",
        """
def retrain(net, E, smaller, epoch, T):
    before = sum(W.numel() for W in net[0])
    after = sum(W.numel() for W in smaller(net)[0])
    for t in range(E + 1, T + 1):
        net = epoch(net, t)
    return smaller(net), (E * before + (T - E) * after) / (T * before)
""",
        only(Q6, "check-2", "hidden-1"),
    ),
    Wrong(
        "weights counted one by one",
        "a4-q6-retrain",
        "sum(W.numel() for W in n[0])",
        "sum(1 for W in n[0] for row in W for _ in row)",
        only(Q6, "hidden-2"),
    ),
    Wrong(
        "the specification, typed again",
        "a4-q6-retrain",
        "",
        typed_again("a4", 6),
        only(Q6, "hidden-2"),
    ),
    Wrong(
        "a call of the specification's counter",
        "a4-q6-retrain",
        "sum(W.numel() for W in n[0])",
        "multiplications_spec(n)",
        Q6,
    ),
]
