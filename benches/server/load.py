#!/usr/bin/env python3
"""A server under load: `latewood serve` and wrk, on the same machine.

    load.py --latewood BIN --beir DIR... [--seconds 10] [--clients 1 4 16 64] [--soak MINUTES]

Makes an index of the collections' documents over HTTP, then asks it with so many clients at a time: in words, by each mode (each
query different, so that none was encoded before), and with embeddings. Then the same while a writer commits without a pause, and
with --soak for so many minutes, looking at the server's memory. Milliseconds. Needs wrk; zstd for collections that are compressed.
"""
import argparse, json, os, subprocess, sys, tempfile, threading, time, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))

def lines(folder, name):
    path = os.path.join(folder, name)
    data = open(path, 'rb').read() if os.path.exists(path) else \
        subprocess.run(['zstd', '-dc', path + '.zst'], check=True, stdout=subprocess.PIPE).stdout
    return [json.loads(line) for line in data.decode().splitlines()]

class Server:
    def __init__(self, latewood, folder):
        command = [latewood, 'serve', '--data', folder, '--addr', '127.0.0.1:0', '-q']
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().split()[-1]

    def post(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {'Content-Type': 'application/json'})
        return json.load(urllib.request.urlopen(request, timeout=600))

    def memory(self):
        status = open(f'/proc/{self.process.pid}/status').read()
        kb = {line.split(':')[0]: int(line.split()[1]) for line in status.splitlines() if line.startswith(('Rss', 'VmRSS', 'VmHWM'))}
        files = len(os.listdir(f'/proc/{self.process.pid}/fd'))
        return f"{kb['VmRSS'] / 1e3:.0f} MB resident ({kb['RssAnon'] / 1e3:.0f} anonymous, most {kb['VmHWM'] / 1e3:.0f}), {files} files open"

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0

def wrk(url, bodies, clients, seconds):
    command = ['wrk', '-t1', f'-c{clients}', f'-d{seconds}s', '--timeout', '30s', '-s', os.path.join(HERE, 'ask.lua'), url]
    out = subprocess.run(command, env={**os.environ, 'BODIES': bodies}, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.splitlines()[-1])

def row(name, clients, f):
    rate = (f['requests'] - f['refused']) / f['seconds']
    print(f"| {name} | {clients} | {rate:.0f} | {f['p50']:.1f} | {f['p95']:.1f} | {f['p99']:.1f} | {f['refused']} | {f['broken']} |", flush=True)

def main():
    args = argparse.ArgumentParser()
    args.add_argument('--latewood', required=True)
    args.add_argument('--beir', nargs='+', required=True)
    args.add_argument('--seconds', type=int, default=10)
    args.add_argument('--clients', type=int, nargs='+', default=[1, 4, 16, 64])
    args.add_argument('--soak', type=float, default=0)
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(args.latewood, os.path.join(folder, 'data'))
        server.post('/v1/indexes', {'name': 'load'})
        documents = [{'id': f'{i}-{d["_id"]}', 'title': d.get('title') or None, 'text': d['text'] or '-', 'metadata': {'set': i}}
                     for i, beir in enumerate(args.beir) for d in lines(beir, 'corpus.jsonl') if d['text'].strip()]
        start = time.time()
        for at in range(0, len(documents), 2000):
            server.post('/v1/indexes/load/documents', {'documents': documents[at:at + 2000]})
        took = time.time() - start
        index = json.load(urllib.request.urlopen(server.url + '/v1/indexes/load'))
        print(f"{index['documents']} documents, {index['passages']} passages, {index['tokens']} tokens, {index['bytes'] / 1e6:.0f} MB; "
              f"added in {took:.0f} s; {server.memory()}\n", flush=True)
        queries = [q['text'] for beir in args.beir for q in lines(beir, 'queries.jsonl')]
        rows = os.path.join(folder, 'rows')
        asked = {'hybrid': {}, 'semantic': {'mode': 'semantic'}, 'keyword': {'mode': 'keyword'}, 'pipeline fast': {'pipeline': 'fast'}}
        bodies_of = {name: os.path.join(folder, name.replace(' ', '-')) for name in asked}
        for seed, (name, how) in enumerate(asked.items()):
            with open(bodies_of[name], 'w') as out: # numbers make each one new
                out.writelines(json.dumps({'query': f'{q} {seed}{n}', 'k': 10, **how}) + '\n' for n in range(50) for q in queries)
        words = bodies_of['hybrid']
        with open(rows, 'w') as out:
            for q in queries[:500]:
                data = server.post('/v1/embeddings', {'input': q, 'input_type': 'query', 'encoding_format': 'base64'})['data'][0]
                out.write(json.dumps({'embeddings': {'base64': data['embedding'], 'shape': data['shape']}, 'k': 10}) + '\n')
        url = server.url + '/v1/indexes/load/search'
        print('| queries | clients | a second | p50 | p95 | p99 | refused | broken |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |')
        for name, bodies in (*bodies_of.items(), ('embeddings', rows)):
            for clients in args.clients:
                row(name, clients, wrk(url, bodies, clients, args.seconds))
        stop, commits = threading.Event(), [0]
        def write():
            while not stop.is_set():
                changed = [{**d, 'text': f"{d['text']} {commits[0]}"} for d in documents[:20]]
                server.post('/v1/indexes/load/documents', {'documents': changed})
                commits[0] += 1
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for clients in args.clients:
                before = commits[0]
                figures = wrk(url, words, clients, args.seconds)
                row(f'hybrid, {commits[0] - before} commits of 20 documents beside', clients, figures)
        finally:
            stop.set()
            writer.join()
        print(f'\n{server.memory()}')
        end = time.time() + 60 * args.soak
        while time.time() < end:
            figures = wrk(url, words, 16, 30)
            print(f"{(end - time.time()) / 60:.1f} minutes left, {figures['requests']} requests, p99 {figures['p99']} ms: {server.memory()}", flush=True)
        server.stop()

if __name__ == '__main__':
    sys.exit(main())
