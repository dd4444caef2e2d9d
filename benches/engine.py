#!/usr/bin/env python3
"""Late-interaction engines side by side: the same vectors, one process an engine, recall against exact MaxSim.

    latewood vectors encode BEIR_DIR --out DIR      token vectors of a collection
    engine.py mix OUT DIR...                        several of them as one
    engine.py resample OUT --base DIR --docs N      a collection of any size from a real one's token vectors
    engine.py exact DIR                             the exact first 200 of each query, into DIR/exact.npz
    engine.py run DIR --work FOLDER --engine 'NAME=COMMAND' [--build 'key=value ...'] --search 'key=value ...' [--search ...]

An engine is any command that speaks as `latewood vectors build` and `latewood vectors search` do (`latewood vectors --help`).
A line of the table is one setting of the search: a fresh process, each query alone, then recall. Needs numpy.
"""
import argparse, json, os, shlex, shutil, subprocess, sys
import numpy as np

TRUTH = 200          # exact hits kept of each query
CHUNK_ROWS = 20_000  # document rows multiplied at a time

def load(folder, name):
    return np.load(os.path.join(folder, name + '.npy'), mmap_mode='r')

def save(folder, name, array):
    np.save(os.path.join(folder, name + '.npy'), array)

def lines(path):
    return open(path).read().splitlines()

def starts(lens):
    return np.concatenate([[0], np.cumsum(lens, dtype=np.int64)])

def mix(out, folders):
    os.makedirs(out, exist_ok=True)
    for name in ('vectors', 'token_ids', 'doclens', 'qlens'):
        save(out, name, np.concatenate([load(f, name) for f in folders]))
    queries = [np.asarray(load(f, 'queries')) for f in folders]
    longest = max(q.shape[1] for q in queries)
    save(out, 'queries', np.concatenate([np.pad(q, ((0, 0), (0, longest - q.shape[1]), (0, 0))) for q in queries]))

def resample(out, base, docs, rows, queries, seed):
    """A document is a slice of a random real one; each row is moved towards another use of the same token."""
    os.makedirs(out, exist_ok=True)
    rng = np.random.default_rng(seed)
    vectors, ids, lens = (load(base, n) for n in ('vectors', 'token_ids', 'doclens'))
    begin, ids = starts(lens), np.asarray(ids) + 1          # pooled rows have the id -1
    by_id = np.argsort(ids, kind='stable')
    first = np.searchsorted(ids[by_id], np.arange(ids.max() + 2))
    of = rng.integers(0, len(lens), docs)
    size = np.minimum(np.maximum(rng.normal(rows, rows / 4, docs).astype(np.int64), 8), lens[of])
    start = begin[of] + (rng.random(docs) * (lens[of] - size + 1)).astype(np.int64)
    n = int(size.sum())
    target = np.lib.format.open_memmap(os.path.join(out, 'vectors.npy'), 'w+', np.float16, (n, vectors.shape[1]))
    new_ids = np.empty(n, np.int64)
    at = starts(size)
    for d in range(0, docs, 4096):
        e = min(d + 4096, docs)
        rows_of = np.concatenate([np.arange(s, s + m) for s, m in zip(start[d:e], size[d:e])])
        token = ids[rows_of]
        other = by_id[first[token] + (rng.random(len(token)) * (first[token + 1] - first[token])).astype(np.int64)]
        share = rng.random((len(token), 1), dtype=np.float32) / 2
        row = (1 - share) * vectors[rows_of].astype(np.float32) + share * vectors[other].astype(np.float32)
        target[at[d]:at[e]] = row / np.linalg.norm(row, axis=1, keepdims=True)
        new_ids[at[d]:at[e]] = token - 1
    target.flush()
    save(out, 'token_ids', new_ids)
    save(out, 'doclens', size.astype(np.int32))
    pick = np.linspace(0, len(load(base, 'qlens')) - 1, queries).astype(int)
    save(out, 'queries', load(base, 'queries')[pick])
    save(out, 'qlens', load(base, 'qlens')[pick])
    print(f'{docs} documents, {n} rows, {queries} queries')

def exact(folder):
    vectors, lens, queries, qlens = (load(folder, n) for n in ('vectors', 'doclens', 'queries', 'qlens'))
    rows = np.concatenate([q[:n] for q, n in zip(queries, qlens)]).astype(np.float32).T.copy()
    at, query_at = starts(lens), starts(qlens)[:-1]
    scores = np.empty((len(lens), len(qlens)), np.float32)
    d = 0
    while d < len(lens):
        e = min(max(d + 1, int(np.searchsorted(at, at[d] + CHUNK_ROWS))), len(lens))
        dots = vectors[at[d]:at[e]].astype(np.float32) @ rows
        best = np.maximum.reduceat(dots, at[d:e] - at[d], axis=0)
        scores[d:e] = np.add.reduceat(best, query_at, axis=1)
        d = e
    order = np.argsort(-scores, axis=0, kind='stable')[:TRUTH].T
    np.savez(os.path.join(folder, 'exact.npz'), ids=order, scores=np.take_along_axis(scores.T, order, 1))

def recall(folder, run, depth):
    """Mean share of the exact first `depth` among the first `depth` of the run; equal scores at the border count."""
    truth = np.load(os.path.join(folder, 'exact.npz'))
    found = [[] for _ in truth['ids']]
    for line in lines(run):
        query, doc = line.split()[:2]
        found[int(query)].append(int(doc))
    def share(ids, scores, hits):
        border = scores[depth - 1] - 1e-5
        good = set(ids[scores >= border].tolist())
        return sum(hit in good for hit in hits[:depth]) / depth
    return float(np.mean([share(*x) for x in zip(truth['ids'], truth['scores'], found)]))

def call(command, *arguments):
    result = subprocess.run([*shlex.split(command), *map(str, arguments)], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f'{command} {shlex.join(map(str, arguments))}\n{result.stderr}')

def options(text):
    return [x for pair in text.split() for x in ('--opt', pair)]

def size(path):
    files = [os.path.join(r, f) for r, _, names in os.walk(path) for f in names] or [path]
    return sum(map(os.path.getsize, files))

def run(a):
    name, command = a.engine.split('=', 1)
    os.makedirs(a.work, exist_ok=True)
    index, timings, hits = (os.path.join(a.work, name + end) for end in ('.index', '.json', '.run'))
    rows = len(load(a.folder, 'vectors'))
    if not a.keep:
        shutil.rmtree(index, ignore_errors=True)
        call(command, 'build', '--embeddings', a.folder, '--index', index, '--threads', a.threads, '--timings', timings, *options(a.build))
        built = json.load(open(timings))
        print(f"{name} {a.build}: built in {built['build_s']:.1f} s ({rows / built['build_s']:,.0f} rows/s on {a.threads} threads), "
              f"{size(index) / rows:.1f} bytes a row, peak {built.get('peak_rss_kb', 0) / 1024:.0f} MB")
    print('| engine | setting | threads | p50 ms | p95 ms | CPU ms | recall@10 | recall@100 |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |')
    for setting in a.search:
        call(command, 'search', '--index', index, '--queries', a.folder, '--k', 100, '--threads', a.threads, '--run', hits, '--timings', timings, *options(setting))
        t = json.load(open(timings))
        ms = [t['latency_us']['p50'], t['latency_us']['p95'], t['cpu_us']['mean']]
        print(f'| {name} | {setting} | {a.threads} |', *(f'{x / 1000:.2f} |' for x in ms),
              *(f'{recall(a.folder, hits, depth):.4f} |' for depth in (10, 100)), flush=True)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest='command', required=True)
    p = sub.add_parser('mix'); p.add_argument('out'); p.add_argument('folders', nargs='+')
    p = sub.add_parser('resample'); p.add_argument('out'); p.add_argument('--base', required=True)
    p.add_argument('--docs', type=int, required=True); p.add_argument('--rows', type=int, default=80)
    p.add_argument('--queries', type=int, default=200); p.add_argument('--seed', type=int, default=1)
    p = sub.add_parser('exact'); p.add_argument('folder')
    p = sub.add_parser('run'); p.add_argument('folder'); p.add_argument('--work', required=True); p.add_argument('--engine', required=True)
    p.add_argument('--build', default=''); p.add_argument('--search', action='append', required=True)
    p.add_argument('--threads', type=int, default=1); p.add_argument('--keep', action='store_true', help='search the index that is there')
    a = parser.parse_args()
    if a.command == 'mix': mix(a.out, a.folders)
    elif a.command == 'resample': resample(a.out, a.base, a.docs, a.rows, a.queries, a.seed)
    elif a.command == 'exact': exact(a.folder)
    else: run(a)

if __name__ == '__main__':
    main()
