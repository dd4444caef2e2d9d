//! What comes out of small files of every language.

use crate::split::tests::check;
use crate::split::{PassageOptions, split_text};
use crate::{Kind, Passage};

/// Passages of at most so many lines that are not blank.
pub(super) fn split(language: &'static str, text: &str, max_tokens: usize) -> Vec<Passage> {
    let options = PassageOptions { max_tokens, min_tokens: 1, overlap_tokens: 0 };
    check(Kind::Code(language), text, &options);
    let lines = |text: &str| text.lines().filter(|line| !line.trim().is_empty()).count();
    split_text(Kind::Code(language), text, &options, &lines).passages
}

/// The first line of each passage, and what it stands in.
pub(super) fn outline(language: &'static str, text: &str, max_tokens: usize) -> Vec<String> {
    let passages = split(language, text, max_tokens);
    let first = |passage: &Passage| passage.text.lines().next().unwrap().trim().to_owned();
    passages.iter().map(|passage| format!("{} | {}", first(passage), passage.headings.join(" > "))).collect()
}

#[test]
fn rust() {
    let text = "\
//! Ranks.

use std::io;

/// Reads ranks.
#[derive(Debug)]
pub struct Reader {
    file: io::File,
    ranks: Vec<u32>,
}

impl Reader {
    /// The rank of a word.
    #[inline]
    pub fn rank(&self, word: &str) -> u32 {
        let at = self.find(word);

        self.ranks[at]
    }
    fn find(&self, word: &str) -> usize {
        word.len() % self.ranks.len()
    }
}
";
    let expected = [
        "//! Ranks. | ",
        "/// Reads ranks. | struct Reader",
        "impl Reader { | impl Reader",
        "/// The rank of a word. | impl Reader > rank",
        "fn find(&self, word: &str) -> usize { | impl Reader > find",
    ];
    assert_eq!(outline("rust", text, 6), expected);
    // What fits is one passage.
    assert_eq!(outline("rust", text, 100), ["//! Ranks. | "]);
    let whole = &text[text.find("impl").unwrap()..];
    assert_eq!(outline("rust", whole, 12), ["impl Reader { | impl Reader"]);
}

#[test]
fn python() {
    let text = "\
import re

class Parser:
    \"\"\"Reads one line after another.\"\"\"

    limit = 10

    # Kept for callers of before.
    @property
    def lines(self):
        return self.read_lines(self.limit)

    async def parse(self, text):
        for line in text.splitlines():
            self.take(line)

@cache
def compiled(pattern):
    return re.compile(pattern)

if __name__ == \"__main__\":
    Parser().parse(\"a\")
";
    let expected = [
        "import re | ",
        "class Parser: | class Parser",
        "# Kept for callers of before. | class Parser > lines",
        "async def parse(self, text): | class Parser > parse",
        "@cache | compiled",
        "if __name__ == \"__main__\": | ",
    ];
    assert_eq!(outline("python", text, 4), expected);
}

#[test]
fn javascript() {
    let text = "\
'use strict';

/** Adds things up. */
export default class Sum {
  #total = 0;

  /** Adds one. */
  add(number) {
    this.#total += number;
  }

  clear = () => {
    this.#total = 0;
  };
}

export const format = async (sum) => {
  return String(sum);
};

exports.parse = function (text) {
  return Number(text);
};

const one = (x) => x + 1;
const two = one(1);
";
    let expected = [
        "'use strict'; | ",
        "/** Adds things up. */ | class Sum",
        "/** Adds one. */ | class Sum > add",
        "clear = () => { | class Sum > clear",
        "export const format = async (sum) => { | format",
        "exports.parse = function (text) { | exports.parse",
        "const one = (x) => x + 1; | ",
    ];
    assert_eq!(outline("javascript", text, 4), expected);
}

#[test]
fn typescript_with_and_without_elements() {
    let text = "\
import { Component } from 'x';

@Component({ selector: 'list' })
export class List<T> implements OnInit {
  constructor(private items: T[]) {}

  @Input()
  set value(next: T) {
    this.items.push(next);
  }
}

export interface Item {
  name: string;
}

export type Name = string | undefined;

namespace Tools {
  export function twice(x: number): number {
    return <number>x * 2;
  }
  export function half(x: number): number {
    return x / 2;
  }
}
";
    let expected = [
        "import { Component } from 'x'; | ",
        "@Component({ selector: 'list' }) | class List",
        "@Input() | class List > value",
        "} | class List > value",
        "export interface Item { | interface Item",
        "export type Name = string | undefined; | type Name",
        "namespace Tools { | namespace Tools",
        "export function twice(x: number): number { | namespace Tools > twice",
        "export function half(x: number): number { | namespace Tools > half",
        "} | namespace Tools > half",
    ];
    assert_eq!(outline("typescript", text, 3), expected);
    let text = "\
import React from 'react';

export function List({ items }: Props) {
  return (
    <ul className=\"list\">
      {items.map((item) => <li key={item}>{item}</li>)}
    </ul>
  );
}

const Empty: React.FC = () => {
  return <p>nothing</p>;
};
";
    let expected = [
        "import React from 'react'; | ",
        "export function List({ items }: Props) { | List",
        "const Empty: React.FC = () => { | Empty",
    ];
    assert_eq!(outline("typescript", text, 7), expected);
}

#[test]
fn go() {
    let text = "\
package rank

import \"io\"

// Reader reads ranks.
type Reader struct {
	file io.Reader
}

// Rank is the rank of a word.
func (r *Reader) Rank(word string) int {
	return len(word)
}

func New(file io.Reader) *Reader {
	return &Reader{file}
}
";
    let expected = [
        "package rank | ",
        "// Reader reads ranks. | type Reader",
        "// Rank is the rank of a word. | (r *Reader) Rank",
        "func New(file io.Reader) *Reader { | New",
    ];
    assert_eq!(outline("go", text, 5), expected);
}

#[test]
fn java() {
    let text = "\
package a.b;

import java.util.List;

/** Counts. */
@Deprecated
public final class Counter<T> extends Base {
    private int count;

    public Counter(List<T> items) {
        this.count = items.size();
    }

    /** The count. */
    @Override
    public int count() {
        return count;
    }

    enum Mode { UP, DOWN }
}
";
    let expected = [
        "package a.b; | ",
        "/** Counts. */ | class Counter",
        "public Counter(List<T> items) { | class Counter > Counter",
        "/** The count. */ | class Counter > count",
        "enum Mode { UP, DOWN } | class Counter > enum Mode",
    ];
    assert_eq!(outline("java", text, 6), expected);
}

#[test]
fn c() {
    let text = "\
#ifndef RANK_H
#define RANK_H

#include <stdio.h>

/* A list. */
typedef struct list {
    int length;
} list_t;

#define EACH(l) \\
    for (int i = 0; i < (l)->length; i++)

/* The length of it. */
static const int *
list_length(const struct list *list)
{
    return &list->length;
}

int list_free(struct list *list);

#endif
";
    let expected = [
        "#ifndef RANK_H | ",
        "/* A list. */ | list_t",
        "#define EACH(l) \\ | EACH",
        "/* The length of it. */ | list_length",
        "int list_free(struct list *list); | ",
    ];
    assert_eq!(outline("c", text, 6), expected);
}

#[test]
fn cpp_in_a_header_of_c_too() {
    let text = "\
#include <vector>

namespace a::b {

/// A stack.
template <class T>
class Stack : public Base {
public:
    Stack() = default;

    /// Puts one on top.
    void push(T item) {
        items.push_back(item);
    }

private:
    std::vector<T> items;
};

template <class T>
int Stack<T>::size() const {
    return items.size();
}

}  // namespace a::b
";
    let expected = [
        "#include <vector> | ",
        "namespace a::b { | namespace a::b",
        "/// A stack. | namespace a::b > class Stack",
        "/// Puts one on top. | namespace a::b > class Stack > push",
        "private: | namespace a::b > class Stack",
        "template <class T> | namespace a::b > Stack<T>::size",
    ];
    for language in ["cpp", "c"] {
        assert_eq!(outline(language, text, 6), expected);
    }
}

#[test]
fn csharp() {
    let text = "\
using System;

namespace A.B
{
    /// <summary>Counts.</summary>
    [Serializable]
    public class Counter : ICounter
    {
        private int count;

        [Obsolete]
        public int Count
        {
            get { return count; }
        }

        public async Task<int> AddAsync(int more)
        {
            count += more;
            return count;
        }
    }
}
";
    let expected = [
        "using System; | ",
        "namespace A.B | namespace A.B",
        "/// <summary>Counts.</summary> | namespace A.B > class Counter",
        "[Obsolete] | namespace A.B > class Counter > Count",
        "public async Task<int> AddAsync(int more) | namespace A.B > class Counter > AddAsync",
    ];
    assert_eq!(outline("csharp", text, 8), expected);
}

#[test]
fn ruby() {
    let text = "\
require 'set'

module Tools
  # A parser.
  class Parser < Base
    attr_reader :lines

    # Reads it.
    def parse(text)
      text.lines.each { |line| take(line) }
    end

    def self.default
      new(10)
    end

    private def take(line)
      @lines << line.strip
    end
  end
end
";
    let expected = [
        "require 'set' | ",
        "module Tools | module Tools",
        "# A parser. | module Tools > class Parser",
        "# Reads it. | module Tools > class Parser > parse",
        "def self.default | module Tools > class Parser > self.default",
        "private def take(line) | module Tools > class Parser > take",
    ];
    assert_eq!(outline("ruby", text, 6), expected);
}

#[test]
fn php() {
    let text = "\
<?php

namespace A;

/** A cart. */
#[Entity]
final class Cart extends Base
{
    private array $items = [];

    /** Adds one. */
    public function add(Item $item): void
    {
        $this->items[] = $item;
    }
}

function total(Cart $cart): int
{
    return count($cart);
}
?>
<p><?= total($cart) ?></p>
";
    let expected = [
        "<?php | ",
        "/** A cart. */ | class Cart",
        "/** Adds one. */ | class Cart > add",
        "$this->items[] = $item; | class Cart > add",
        "function total(Cart $cart): int | total",
        "?> | ",
    ];
    assert_eq!(outline("php", text, 5), expected);
}

#[test]
fn shell() {
    let text = "\
#!/bin/sh
set -e

# Says it.
say() {
    printf '%s\\n' \"$1\"
}

function main {
    say hello
}

main \"$@\"
";
    let expected =
        ["#!/bin/sh | ", "# Says it. | say", "printf '%s\\n' \"$1\" | say", "function main { | main", "main \"$@\" | "];
    assert_eq!(outline("shell", text, 3), expected);
}

/// In whatever way a long function is cut, its parts say what they are of, and what follows is not mixed with its end.
#[test]
fn parts_of_a_long_function_know_its_name() {
    let lines: String = (0..40).map(|n| format!("        let a{n} = b;\n")).collect();
    let text = format!("impl A {{\n    fn long() {{\n{lines}    }}\n\n    fn next() {{\n        x();\n    }}\n}}\n");
    let passages = split("rust", &text, 12);
    let (last, parts) = passages[1..].split_last().unwrap();
    assert!(parts.len() > 3);
    assert!(parts.iter().all(|part| part.headings == ["impl A", "long"]), "{parts:?}");
    assert_eq!((last.headings.join(" "), last.text.lines().next()), ("impl A next".into(), Some("    fn next() {")));
}

/// A name may be where nobody would cut: behind a word of the same line, or in a statement that holds it.
#[test]
fn definitions_inside_of_statements_are_found() {
    let text = "\
(function (root) {
  var state = 1;

  function first() {
    return state;
  }

  root.second = function () {
    return 2;
  };
})(this);

if (debug) {
  function trace(x) {
    print(x);
  }
}
";
    let expected = [
        "(function (root) { | ",
        "function first() { | first",
        "root.second = function () { | root.second",
        "if (debug) { | ",
        "function trace(x) { | trace",
    ];
    assert_eq!(outline("javascript", text, 4), expected);
}
