#!/usr/bin/env python3
"""fast-plaid behind the commands of `latewood vectors`. Options are its own: nbits, kmeans_niters, n_samples_kmeans, ...
when building; n_ivf_probe, n_full_scores when searching."""
import common

def build(documents, path, options):
    from fast_plaid import search
    # It keeps the raw vectors of a small collection beside the index, for updates; not here.
    search.FastPlaid(index=path, device='cpu').create(documents, **{'start_from_scratch': 0, **options})

def open_index(path, k, threads, options):
    from fast_plaid import search
    index = search.FastPlaid(index=path, device='cpu')
    return lambda query: index.search(query, top_k=k, n_processes=1, show_progress=False, **options)[0]

common.main(build, open_index)
