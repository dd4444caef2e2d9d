#!/usr/bin/env python3
"""Passages against fixed windows: how much of the characters that answer a question is found, and how little else.

    chunks.py DIR --latewood BIN [--only NAME...] [--langchain]

DIR holds corpora/*.md and questions.jsonl (`corpus`, `text`, `spans` in code points), as made from the general evaluation of
brandonstarxel/chunking_evaluation, whose measures these are. The corpora are indexed as a folder at default settings. Windows of
so many tokens, half of them repeated or none, are added beside as embeddings of the same model, so that the same search serves
all; a window longer than the model reads is encoded in pieces and found as one. With --langchain (pip install
langchain-text-splitters) also its RecursiveCharacterTextSplitter, by characters.

Of k passages: recall is the part of the answer that they cover, precision the part of what they hold that answers, IoU both
over all; what two passages repeat is read twice and counts twice. At a budget of characters passages are read by rank until it
is used up, the last one in part: there, small passages win no precision and large ones no recall by their size. Precision
omega is the IoU of the answer and all passages that touch it: what the cuts alone leave possible.
"""
import argparse, base64, contextlib, json, os, shutil, statistics, subprocess, sys, tempfile, urllib.request
from itertools import accumulate

KS = (1, 3, 5, 10)
BUDGETS = (500, 1000, 2000, 4000)
SIZES = (100, 200, 250, 400, 800)
WINDOWS = [(tokens, 0) for tokens in SIZES] + [(tokens, tokens // 2) for tokens in SIZES]
RECURSIVE = [(400, 0), (800, 0), (1000, 200)]
HITS = 50

class Server:
    def __init__(self, latewood, folder, data):
        command = [latewood, 'serve', folder, '--data', data, '--addr', '127.0.0.1:0', '--timeout', '600', '-q']
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[-1]
        self.room = self.get('/info')['max_input_length'] - 10 # of special tokens, and of words cut in two

    def get(self, path):
        return json.load(urllib.request.urlopen(self.url + path))

    def post(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {'Content-Type': 'application/json'})
        return json.load(urllib.request.urlopen(request, timeout=600))

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

class Corpus:
    def __init__(self, path):
        self.name = os.path.basename(path)
        self.text = open(path, encoding='utf-8', newline='').read()
        self.bytes = self.text.encode()
        self.byte = list(accumulate((len(c.encode()) for c in self.text), initial=0)) # of each character
        self.char = [0] * (len(self.bytes) + 1) # of each byte
        for at, byte in enumerate(self.byte):
            self.char[byte] = at
        for byte in range(1, len(self.char)):
            self.char[byte] = self.char[byte] or self.char[byte - 1]

    def tokens(self, server):
        if not hasattr(self, 'known'):
            tokens = server.post('/tokenize', {'inputs': self.text, 'add_special_tokens': False})[0]
            self.known = [(token['start'], token['stop']) for token in tokens]
        return self.known

def merged(spans):
    out = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1][1] = max(out[-1][1], end)
        else:
            out.append([start, end])
    return out

def length(spans):
    return sum(end - start for start, end in spans)

def common(a, b):
    return sum(max(0, min(x[1], y[1]) - max(x[0], y[0])) for x in merged(a) for y in merged(b))

def of_tokens(corpus, server, tokens, overlap):
    """Windows of so many tokens: each a span of bytes, and the spans that its rows are encoded from."""
    all, windows, start = corpus.tokens(server), [], 0
    while True:
        window = all[start:start + tokens]
        pieces = -(-len(window) // server.room)
        cuts = [len(window) * piece // pieces for piece in range(pieces + 1)]
        windows.append((window[0][0], window[-1][1], [(window[a][0], window[b - 1][1]) for a, b in zip(cuts, cuts[1:])]))
        if start + tokens >= len(all):
            return windows
        start += tokens - overlap

def recursive(corpus, server, size, overlap):
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    splitter = RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap, add_start_index=True)
    windows, ends = [], corpus.tokens(server)
    for document in splitter.create_documents([corpus.text]):
        at = document.metadata['start_index']
        start, end = corpus.byte[at], corpus.byte[at + len(document.page_content)]
        inside = [token for token in ends if start <= token[0] and token[1] <= end]
        pieces = max(1, -(-len(inside) // server.room))
        cuts = [inside[len(inside) * piece // pieces][0] for piece in range(1, pieces)]
        edges = [start, *cuts, end]
        windows.append((start, end, list(zip(edges, edges[1:]))))
    return windows

def add(server, index, corpora, split):
    """An index of windows, which know where they are by their metadata; their spans by corpus."""
    server.post('/v1/indexes', {'name': index})
    spans = {}
    for corpus in corpora:
        windows = split(corpus)
        spans[corpus.name] = [(corpus.char[start], corpus.char[end]) for start, end, _ in windows]
        for at in range(0, len(windows), 40): # 22 MB of rows, at 800 tokens
            some = windows[at:at + 40]
            texts = [corpus.bytes[a:b].decode() for *_, pieces in some for a, b in pieces]
            rows = iter(server.post('/v1/embeddings', {'input': texts, 'input_type': 'document', 'encoding_format': 'base64'})['data'])
            documents = []
            for start, end, pieces in some:
                parts = [next(rows) for _ in pieces]
                data = base64.b64encode(b''.join(base64.b64decode(part['embedding']) for part in parts)).decode()
                shape = [sum(part['shape'][0] for part in parts), parts[0]['shape'][1]]
                if shape[0]: # not one of marks alone, which the model keeps no rows of
                    documents.append({'id': f'{corpus.name} {start}-{end}', 'embeddings': {'base64': data, 'shape': shape},
                                      'metadata': {'file': corpus.name, 'start': start, 'end': end}})
            server.post(f'/v1/indexes/{index}/documents', {'documents': documents})
    return spans

def ask(server, index, corpora, questions, file):
    """For each question its hits, best first, as (corpus, start, end) in characters; `file` filters by corpus."""
    found = {}
    for corpus in corpora:
        own = [q for q in questions if q['corpus'] + '.md' == corpus.name]
        for at in range(0, len(own), 50):
            some = own[at:at + 50]
            body = {'queries': [q['text'] for q in some], 'k': HITS, 'mode': 'semantic'}
            if file:
                body['filter'] = {file: corpus.name}
            for question, result in zip(some, server.post(f'/v1/indexes/{index}/search', body)['results']):
                found[question['_id']] = [place(hit, corpora) for hit in result['hits']]
    return found

def place(hit, corpora):
    where = hit['metadata'] or {'file': hit['document'], **hit['span']}
    corpus = next(corpus for corpus in corpora if corpus.name == where['file'])
    return corpus.name, corpus.char[where['start']], corpus.char[where['end']]

def score(question, hits):
    """Recall, precision and IoU of these passages."""
    answer = question['spans']
    hit = common([span[1:] for span in hits if span[0] == question['corpus'] + '.md'], answer)
    read, wanted = sum(end - start for _, start, end in hits), length(merged(answer))
    return hit / wanted, hit / read if read else 0, hit / (read + wanted - hit)

def within(hits, budget):
    for name, start, end in hits:
        if budget <= 0:
            return
        yield name, start, min(end, start + budget)
        budget -= end - start

def omega(question, spans):
    touching = [span for span in spans[question['corpus'] + '.md'] if any(span[0] < end and start < span[1] for start, end in question['spans'])]
    hit = common(touching, question['spans'])
    return hit / length(merged(touching + question['spans']))

def measure(questions, found, spans):
    """What is reported: a list of values over the questions, by name."""
    figures = {}
    for question in questions:
        hits = found[question['_id']]
        cuts = [(f'@{k}', hits[:k]) for k in KS] + [(f'in {budget}', list(within(hits, budget))) for budget in BUDGETS]
        for at, some in cuts:
            for name, value in zip(('recall', 'precision', 'iou'), score(question, some)):
                figures.setdefault(name + at, []).append(value)
        figures.setdefault('omega', []).append(omega(question, spans))
    return figures

def table(head, rows):
    print('| ' + ' | '.join(head) + ' |\n| --- |' + ' ---: |' * (len(head) - 1))
    for row in rows:
        print('| ' + ' | '.join(row) + ' |')
    print(flush=True)

def report(results, questions):
    mean, std = statistics.mean, statistics.pstdev
    for scope in ('all', 'own'):
        print(f'Searched: {"all five corpora" if scope == "all" else "the corpus that the question is about"}; recall, precision and IoU in percent\n')
        table(['', 'passages', 'characters', *(f'k = {k}' for k in KS), 'omega'],
            [[name, str(count), f'{size:.0f}', *(' / '.join(f'{100 * mean(f[scope][m + f"@{k}"]):.1f}' for m in ('recall', 'precision', 'iou')) for k in KS),
              f'{100 * mean(f[scope]["omega"]):.1f}'] for name, count, size, f in results])
        table(['recall within characters', *map(str, BUDGETS)],
            [[name, *(f'{100 * mean(f[scope][f"recallin {b}"]):.1f}' for b in BUDGETS)] for name, _, _, f in results])
    print('Standard deviation over the questions, all corpora, k = 5\n')
    table(['', 'recall', 'precision', 'IoU', 'omega'], [[name, *(f'{100 * std(f["all"][m]):.1f}' for m in ('recall@5', 'precision@5', 'iou@5', 'omega'))] for name, _, _, f in results])
    names = sorted({q['corpus'] for q in questions})
    print('Recall within 2000 characters of all corpora, by the corpus asked about\n')
    table(['', *names], [[name, *(f'{100 * mean(v for v, q in zip(f["all"]["recallin 2000"], questions) if q["corpus"] == corpus):.1f}' for corpus in names)]
        for name, _, _, f in results])

def main():
    args = argparse.ArgumentParser()
    args.add_argument('data')
    args.add_argument('--latewood', required=True)
    args.add_argument('--only', nargs='*', help='rows, as "latewood" or "200/100"')
    args.add_argument('--langchain', action='store_true')
    args.add_argument('--save', help='where to write the figures of each question as JSON, row by row')
    args = args.parse_args()
    questions = [json.loads(line) for line in open(os.path.join(args.data, 'questions.jsonl'), encoding='utf-8')]
    for question in questions:
        question['spans'] = [tuple(span) for span in question['spans']]
    paths = sorted(os.path.join(args.data, 'corpora', name) for name in os.listdir(os.path.join(args.data, 'corpora')))
    corpora, results = [Corpus(path) for path in paths], []
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        folder = os.path.join(work, 'corpora')
        os.mkdir(folder)
        for path in paths:
            shutil.copyfile(path, os.path.join(folder, os.path.basename(path)))
        server = Server(args.latewood, folder, os.path.join(work, 'data'))
        stack.callback(server.stop)
        splits = {'latewood': None}
        for tokens, overlap in WINDOWS:
            splits[f'{tokens}/{overlap}'] = lambda corpus, n=tokens, o=overlap: of_tokens(corpus, server, n, o)
        for size, overlap in RECURSIVE if args.langchain else []:
            splits[f'recursive {size}/{overlap}'] = lambda corpus, n=size, o=overlap: recursive(corpus, server, n, o)
        for name, split in splits.items():
            if args.only and name not in args.only:
                continue
            if split:
                index = name.replace('/', '-').replace(' ', '-')
                spans = add(server, index, corpora, split)
            else:
                index, spans = 'default', {}
                for corpus in corpora:
                    passages = server.get(f'/v1/indexes/default/documents/{corpus.name}')['passages']
                    spans[corpus.name] = [(corpus.char[p['span']['start']], corpus.char[p['span']['end']]) for p in passages]
            every = [span for some in spans.values() for span in some]
            figures = {}
            for scope, file in (('all', None), ('own', 'file' if split else 'id')):
                found = ask(server, index, corpora, questions, file)
                figures[scope] = measure(questions, found, spans)
            results.append((name, len(every), length(every) / len(every), figures))
            if args.save:
                with open(args.save, 'w') as out:
                    json.dump(results, out)
            print(f'{name}: done', file=sys.stderr, flush=True)
    report(results, questions)

if __name__ == '__main__':
    main()
