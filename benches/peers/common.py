"""The commands of `latewood vectors` for engines with a Python interface: the same arrays in, the same run and timings out.

An adapter calls `main(build, open_index)`:
    build(documents, path, options)          documents: torch f16 matrices of one document each; leaves the index at `path`
    open_index(path, k, threads, options)    a function from a query (torch f32 [1, rows, d]) to [(document, score)], best first
"""
import argparse, json, os, time

def main(build, open_index):
    parser = argparse.ArgumentParser()
    sub = parser.add_subparsers(dest='command', required=True)
    for name, inputs in (('build', ['--embeddings']), ('search', ['--queries', '--run'])):
        p = sub.add_parser(name)
        for flag in [*inputs, '--index', '--timings']:
            p.add_argument(flag, required=True)
        p.add_argument('--threads', type=int, default=1)
        p.add_argument('--opt', action='append', default=[], metavar='KEY=VALUE', help="an argument of the engine's own")
    p.add_argument('--k', type=int, default=10)
    a = parser.parse_args()
    limit_threads(a.threads)
    timings = run_build(a, build) if a.command == 'build' else run_search(a, open_index)
    timings['peak_rss_kb'] = memory('VmHWM')
    with open(a.timings, 'w') as f:
        json.dump(timings, f)

def limit_threads(n):
    """Before anything loads a thread pool; numpy and torch are imported only after this."""
    for name in ('OMP', 'MKL', 'OPENBLAS', 'RAYON'):
        os.environ[name + '_NUM_THREADS'] = str(n)
    import torch
    torch.set_num_threads(n)
    torch.set_num_interop_threads(n)

def run_build(a, build):
    import numpy as np, torch
    vectors = torch.from_numpy(np.load(os.path.join(a.embeddings, 'vectors.npy')))
    documents = list(vectors.split(np.load(os.path.join(a.embeddings, 'doclens.npy')).tolist()))
    input_kb, start = memory('VmRSS'), time.perf_counter()
    build(documents, a.index, options(a.opt))
    return {'build_s': time.perf_counter() - start, 'input_rss_kb': input_kb}

def run_search(a, open_index):
    import numpy as np, torch
    padded, lens = (np.load(os.path.join(a.queries, name + '.npy')) for name in ('queries', 'qlens'))
    queries = [torch.from_numpy(q[:n].copy())[None] for q, n in zip(padded, lens)]
    start = time.perf_counter()
    search = open_index(a.index, a.k, a.threads, options(a.opt))
    load = time.perf_counter() - start
    for query in queries:
        search(query)
    latency, cpu, found = [], [], []
    for query in queries:
        cpu_start, start = time.process_time_ns(), time.perf_counter_ns()
        found.append(search(query))
        latency.append((time.perf_counter_ns() - start) / 1e3)
        cpu.append((time.process_time_ns() - cpu_start) / 1e3)
    with open(a.run, 'w') as f:
        for number, hits in enumerate(found):
            f.writelines(f'{number} {doc} {rank} {score}\n' for rank, (doc, score) in enumerate(hits, 1))
    latency.sort()
    at = lambda share: latency[round((len(latency) - 1) * share)]
    return {'load_s': load, 'nq': len(queries), 'latency_us': {'p50': at(.5), 'p95': at(.95), 'p99': at(.99)},
            'cpu_us': {'mean': sum(cpu) / len(cpu)}}

def options(pairs):
    return {key: json.loads(value) for key, value in (pair.split('=', 1) for pair in pairs)}

def memory(name):
    with open('/proc/self/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith(name + ':'))
