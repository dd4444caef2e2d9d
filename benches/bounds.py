#!/usr/bin/env python3
"""What a proof by bounds would leave to score: bounds.py DIR [--centroids N] [--queries N]

DIR holds arrays as `latewood vectors encode` writes them. A token at the angle a from its centroid c has with a query row q at
most the dot product cos a <q, c> + sin a sqrt(|q|^2 - <q, c>^2): nothing that keeps only centroid and angle can say less. A
document whose bounds, summed over the rows, are below the exact k-th best score need not be scored. Needs numpy."""
import argparse, os
import numpy as np

p = argparse.ArgumentParser()
p.add_argument('dir')
p.add_argument('--centroids', type=int, default=4096)
p.add_argument('--queries', type=int, default=30)
a = p.parse_args()
rng = np.random.default_rng(1)
load = lambda name: np.load(os.path.join(a.dir, name + '.npy'), mmap_mode='r')
x = load('vectors').astype(np.float32)
lens, queries, qlens = np.asarray(load('doclens'), np.int64), load('queries'), load('qlens')
starts = np.concatenate([[0], np.cumsum(lens)])[:-1]

def nearest(rows, centroids):
    return np.concatenate([(rows[i:i + 20000] @ centroids.T).argmax(1) for i in range(0, len(rows), 20000)])

centroids = x[rng.choice(len(x), a.centroids, replace=False)].copy()
sample = x[rng.choice(len(x), min(len(x), 40 * a.centroids), replace=False)]
for _ in range(4):
    of = nearest(sample, centroids)
    sums = np.zeros_like(centroids)
    np.add.at(sums, of, sample)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    centroids = np.where(norms > 0, sums / np.maximum(norms, 1e-9), centroids)
of = nearest(x, centroids)
cos = np.einsum('ij,ij->i', x, centroids[of]).clip(-1, 1)
sin = np.sqrt(1 - cos ** 2)
print(f'{len(lens)} documents, {len(x)} tokens, {a.centroids} centroids, mean cosine {cos.mean():.3f}')
left = {10: [], 100: []}
for q, n in list(zip(queries, qlens))[:a.queries]:
    q = np.asarray(q[:n], np.float32)
    exact, bound = np.zeros(len(lens)), np.zeros(len(lens))
    for row in q:
        at = centroids @ row
        off = np.sqrt(np.maximum(row @ row - at ** 2, 0))
        exact += np.maximum.reduceat(x @ row, starts)
        bound += np.maximum.reduceat(cos * at[of] + sin * off[of], starts)
    assert (bound >= exact - 1e-3).all()
    for k in left:
        left[k].append((bound >= np.sort(exact)[-k]).mean())
for k, shares in left.items():
    print(f'k = {k}: bounds leave {100 * np.mean(shares):.1f}% of the documents to score')
