#!/usr/bin/env python3
"""xtr-warp-rs behind the commands of `latewood vectors`. Options are its own: nbits, num_partitions, kmeans_niters, ... when
building; nprobe, t_prime, bound, centroid_score_threshold, max_candidates when searching, by its heuristics where not given."""
import common

def build(documents, path, options):
    from xtr_warp.search import XTRWarp
    XTRWarp(index=path).create(documents, device='cpu', show_progress=False, **options)

def open_index(path, k, threads, options):
    from xtr_warp.search import XTRWarp
    index = XTRWarp(index=path).load(device='cpu')
    return lambda query: index.search(query, top_k=k, num_threads=threads, show_progress=False, **options)[0]

common.main(build, open_index)
