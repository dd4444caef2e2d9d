//! Inside an application of tantivy's: its queries say what may be found, or bring candidates, and Latewood scores them.
//!
//! `cargo run --release -p latewood --features embedded --example in_tantivy`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use latewood::encoder::{ColbertEncoder, Encoder};
use latewood::engine::{DocId, Index, IndexOptions, Prefilter, RamDirectory, SearchParams};
use tantivy::collector::{DocSetCollector, TopDocs};
use tantivy::query::QueryParser;
use tantivy::schema::{FAST, INDEXED, STORED, Schema, TEXT, Value};
use tantivy::{TantivyDocument, doc};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let notes = [
        (1, 1987, "The old kiln burned oak and never got hotter than a bread oven."),
        (2, 2011, "Stoneware goes into the kiln dry and comes out at 1280 degrees."),
        (3, 2019, "Honey is taken from the hive in August, when the combs are sealed."),
        (4, 2023, "The electric kiln reaches its temperature in nine hours."),
    ];

    // The application as it is: an index of tantivy's, with ids of its own.
    let mut schema = Schema::builder();
    let (id, year) = (schema.add_u64_field("id", STORED | FAST), schema.add_u64_field("year", INDEXED));
    let text = schema.add_text_field("text", TEXT | STORED);
    let words = tantivy::Index::create_in_ram(schema.build());
    let mut writer = words.writer_with_num_threads(1, 20_000_000)?;
    for (note, written, content) in notes {
        writer.add_document(doc!(id => note, year => written as u64, text => content))?;
    }
    writer.commit()?;

    // Latewood beside it, under the same ids.
    let encoder = ColbertEncoder::embedded()?;
    let options = IndexOptions::new(encoder.dim()).model(encoder.model_id().as_str());
    let vectors = Index::create(RamDirectory::new(), options)?;
    let mut writer = vectors.writer()?;
    for ((note, ..), encoded) in notes.iter().zip(encoder.encode_documents(&notes.map(|(.., content)| content))?) {
        writer.add(DocId(*note), encoded.embeddings.view())?;
    }
    writer.commit(None, &())?;

    let (reader, searcher) = (words.reader()?.searcher(), vectors.searcher()?);
    let id_of = |at| -> tantivy::Result<u64> {
        let stored: TantivyDocument = reader.doc(at)?;
        Ok(stored.get_first(id).and_then(|value| value.as_u64()).unwrap_or_default())
    };
    let question = "how hot does an oven for pots get?";
    let query = encoder.encode_queries(&[question])?.remove(0).embeddings;

    // A filter: whatever tantivy can ask for becomes the set that may be found.
    let recent = QueryParser::for_index(&words, vec![text]).parse_query("year:[2000 TO 2030]")?;
    let allowed = reader.search(&recent, &DocSetCollector)?.into_iter().map(id_of).collect::<Result<_, _>>()?;
    let mut params = SearchParams::new(2);
    params.filter = Prefilter::Only(allowed);
    println!("{question}\nsince 2000, by meaning:");
    for hit in searcher.search(&query, &params)?.hits {
        println!("  {:.2}  note {}", hit.score, hit.doc);
    }

    // Candidates: the first by BM25, put in order by late interaction.
    let first = QueryParser::for_index(&words, vec![text]).parse_query("kiln")?;
    let first = reader.search(&first, &TopDocs::with_limit(100).order_by_score())?;
    let candidates = first.into_iter().map(|(_, at)| id_of(at).map(DocId)).collect::<Result<Vec<_>, _>>()?;
    println!("{} notes with the word \"kiln\", in order of the question:", candidates.len());
    for hit in searcher.rerank(&query, &candidates, &SearchParams::new(candidates.len()))?.hits {
        println!("  {:.2}  note {}", hit.score, hit.doc);
    }
    Ok(())
}
