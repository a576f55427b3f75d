//! Task results against the goldens', and what the goldens do not have: texts longer than the
//! models take, and bad input.

use serde_json::Value;
use tilewright::Error;
use tilewright::engine::Device;
use tilewright::tasks::{
    Aggregation, AnswerOptions, Answerer, Classifier, FillMask, InputText, Tagger, TaskOptions,
};

use crate::generate::devices;
use crate::golden::Golden;

/// Scores are rounded to seven digits in the goldens, and come from f32 logits.
const SCORE: f64 = 2e-5;

fn options() -> TaskOptions {
    TaskOptions::default()
}

/// A case's texts, with the second one where there is one.
fn texts(case: &Value) -> Vec<InputText<'_>> {
    let list = |name: &str| case[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let second = list("text_pairs");
    let second = |i: usize| second.get(i).and_then(Value::as_str);
    let first = list("texts").iter().map(|t| t.as_str().unwrap());
    first.enumerate().map(|(i, first)| InputText { first, second: second(i) }).collect()
}

/// The cases of a folder that have a result of this kind; at least one.
fn cases<'a>(golden: &'a Golden, result: &str) -> Vec<&'a Value> {
    let all = golden.cases("forward").into_iter();
    let found: Vec<_> = all.filter(|c| !c[result].is_null()).collect();
    assert!(!found.is_empty(), "no {result}");
    found
}

#[track_caller]
fn close(got: f64, want: &Value) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= SCORE, "{got}, not {want}");
}

#[test]
fn masks_are_filled_like_the_goldens() {
    for name in ["bert_mlm", "bert_mlm_gammabeta", "roberta_mlm"] {
        let golden = Golden::open(name);
        for device in devices() {
            let model = FillMask::open(&golden.folder, device, &options()).unwrap();
            for case in cases(&golden, "fill_mask_top5") {
                let got = model.fill_with(&texts(case), 5, &mut |_| go_on()).unwrap();
                let wanted = case["fill_mask_top5"].as_array().unwrap();
                assert_eq!(got.iter().map(Vec::len).sum::<usize>(), wanted.len());
                for want in wanted {
                    let row = &got[want["row"].as_u64().unwrap() as usize];
                    let position = want["position"].as_u64().unwrap() as usize;
                    let mask = row.iter().find(|m| m.position == position).unwrap();
                    assert_eq!(mask.candidates.len(), 5);
                    for (i, candidate) in mask.candidates.iter().enumerate() {
                        assert_eq!(candidate.id, want["ids"][i], "{name} {want}");
                        assert_eq!(candidate.token, want["tokens"][i]);
                        close(candidate.score, &want["scores"][i]);
                    }
                }
            }
        }
    }
}

fn go_on() -> std::ops::ControlFlow<()> {
    std::ops::ControlFlow::Continue(())
}

#[test]
fn texts_are_classified_like_the_goldens() {
    for name in ["bert_cls", "distilbert_cls"] {
        let golden = Golden::open(name);
        for device in devices() {
            let model = Classifier::open(&golden.folder, device, &options()).unwrap();
            let labels = model.info().labels.clone();
            for case in cases(&golden, "labels") {
                let got = model.classify_with(&texts(case), &mut |_| go_on()).unwrap();
                for (row, result) in got.iter().enumerate() {
                    assert_eq!(result.labels[0].label, case["labels"][row]);
                    assert_eq!(result.truncated, 0);
                    assert_eq!(result.labels.len(), labels.len());
                    assert!(result.labels.is_sorted_by(|a, b| a.score >= b.score));
                    for label in &result.labels {
                        let index = labels.iter().position(|l| *l == label.label).unwrap();
                        close(label.score, &case["scores"][row][index]);
                    }
                }
            }
        }
    }
}

#[test]
fn tokens_are_labelled_like_the_golden() {
    let golden = Golden::open("bert_ner");
    for device in devices() {
        let model = Tagger::open(&golden.folder, device, &options()).unwrap();
        for case in cases(&golden, "token_labels") {
            let texts: Vec<_> = texts(case).iter().map(|t| t.first).collect();
            let got = model.tag(&texts, Aggregation::None).unwrap();
            for ((got, want), text) in
                got.iter().zip(case["token_labels"].as_array().unwrap()).zip(texts)
            {
                let want = want.as_array().unwrap();
                assert_eq!(got.len(), want.len());
                for (got, want) in got.iter().zip(want) {
                    assert_eq!(got.label, want["label"], "{want}");
                    assert_eq!((got.start as u64, got.end as u64), place(want));
                    assert_eq!(got.text, stretch(text, got.start, got.end));
                    close(got.score, &want["score"]);
                }
            }
        }
    }
}

fn place(value: &Value) -> (u64, u64) {
    (value["start"].as_u64().unwrap(), value["end"].as_u64().unwrap())
}

fn stretch(text: &str, start: usize, end: usize) -> String {
    text.chars().skip(start).take(end - start).collect()
}

#[test]
fn word_pieces_are_grouped() {
    let golden = Golden::open("bert_ner");
    let model = Tagger::open(&golden.folder, Device::cpu(), &options()).unwrap();
    // By the golden: The B-PER, en B-ORG + ##g I-LOC + ##ine B-PER, read B-PER.
    let got = model.tag(&["The engine read"], Aggregation::First).unwrap();
    let got: Vec<_> = got[0].iter().map(|e| (&*e.label, &*e.text, e.start, e.end)).collect();
    assert_eq!(got, [("PER", "The", 0, 3), ("ORG", "engine", 4, 10), ("PER", "read", 11, 15)]);
    for mode in [Aggregation::First, Aggregation::Mean] {
        let text = "Rain fell while Anna Schmidt was waiting in Berlin";
        for entity in &model.tag(&[text], mode).unwrap()[0] {
            assert_eq!(entity.text, stretch(text, entity.start, entity.end));
            let words = entity.text.split(' ');
            assert!(words.into_iter().all(|word| text.split(' ').any(|w| w == word)));
        }
    }
    assert_eq!(model.tag(&[""], Aggregation::First).unwrap(), [vec![]]);
}

#[test]
fn questions_are_answered_like_the_golden() {
    let golden = Golden::open("bert_qa");
    for device in devices() {
        let model = Answerer::open(&golden.folder, device, &options()).unwrap();
        for case in cases(&golden, "answers") {
            let pairs: Vec<_> = texts(case).iter().map(|t| (t.first, t.second.unwrap())).collect();
            let got = model.answer(&pairs, AnswerOptions::default()).unwrap();
            for want in case["answers"].as_array().unwrap() {
                let row = want["row"].as_u64().unwrap() as usize;
                let [answer] = got[row].as_slice() else { panic!("{:?}", got[row]) };
                assert_eq!(answer.answer, want["answer"]);
                assert_eq!((answer.start as u64, answer.end as u64), place(want));
                close(answer.score, &want["score"]);
            }
            let two = AnswerOptions { top_k: 2, ..AnswerOptions::default() };
            let got = model.answer(&pairs, two).unwrap();
            for want in case["answers"].as_array().unwrap() {
                let row = want["row"].as_u64().unwrap() as usize;
                // A context of one token has one span only.
                if let [_, second] = got[row].as_slice() {
                    close(second.score, &want["runner_up"]);
                }
            }
        }
    }
}

/// Words that are one token each, so that a cut falls between words.
fn long_text(words: usize) -> String {
    let all = ["the", "on", "car", "read", "page", "every", "that", "in", "was", "of"];
    (0..words).map(|i| all[(i * i + i / 7) % all.len()]).collect::<Vec<_>>().join(" ")
}

#[test]
fn long_texts_are_tagged_in_windows() {
    let golden = Golden::open("bert_ner");
    for device in devices() {
        let model = Tagger::open(&golden.folder, device, &options()).unwrap();
        assert_eq!(model.max_tokens(), 80);
        let text = long_text(300);
        let tokens = model.tokenizer().encode(&text, false).unwrap();
        let [whole, first, last] = [0..tokens.len(), 0..78, tokens.len() - 78..tokens.len()]
            .map(|range| {
                let (start, end) = (tokens.offsets[range.start].0, tokens.offsets[range.end - 1].1);
                let part = stretch(&text, start, end);
                (start, model.tag(&[&part], Aggregation::None).unwrap().remove(0))
            })
            .map(|(start, pieces)| {
                let shifted = |e: &tilewright::tasks::Entity| {
                    (e.start + start, e.end + start, e.label.clone(), e.score)
                };
                pieces.iter().map(shifted).collect::<Vec<_>>()
            });
        // Every token is there once, in order.
        assert_eq!(whole.len(), tokens.len());
        for (piece, offsets) in whole.iter().zip(&tokens.offsets) {
            assert_eq!((piece.0, piece.1), *offsets);
        }
        // The first and the last window are what is read of those parts alone, up to where the
        // next window has more around a token.
        let same = |a: &[(usize, usize, String, f64)], b: &[(usize, usize, String, f64)]| {
            for (a, b) in a.iter().zip(b) {
                assert_eq!((a.0, a.1, &a.2), (b.0, b.1, &b.2));
                assert!((a.3 - b.3).abs() < 1e-5, "{a:?} {b:?}");
            }
        };
        same(&whole[..60], &first[..60]);
        same(&whole[whole.len() - 35..], &last[78 - 35..]);
        // Alone, the middle of the text reads differently: windows matter.
        assert_ne!(whole[70].3, first[70].3);
    }
}

#[test]
fn long_contexts_are_read_in_windows() {
    let golden = Golden::open("bert_qa");
    let model = Answerer::open(&golden.folder, Device::cpu(), &options()).unwrap();
    let question = "Who?";
    let context = long_text(260);
    let options = AnswerOptions { top_k: 3, max_tokens: 4 };
    let long = model.answer(&[(question, &context)], options).unwrap().remove(0);
    assert_eq!(long.len(), 3);
    assert!(long.is_sorted_by(|a, b| a.score >= b.score));
    assert!(long.iter().map(|a| a.score).sum::<f64>() < 1.0);
    let encoding = model.tokenizer().encode_pair(question, &context, true).unwrap();
    let windows = encoding.windows(1, model.max_tokens()).unwrap();
    assert!(windows.len() > 3);
    // What each window answers when it is the whole context.
    let mut alone = Vec::new();
    for window in &windows {
        let of_context: Vec<usize> =
            window.indices.iter().copied().filter(|&i| encoding.sequences[i] == Some(1)).collect();
        let start = encoding.offsets[of_context[0]].0;
        let end = encoding.offsets[*of_context.last().unwrap()].1;
        let part = stretch(&context, start, end);
        let many = AnswerOptions { top_k: 400, max_tokens: 4 };
        let answers = model.answer(&[(question, &part)], many).unwrap().remove(0);
        alone.push(answers.into_iter().map(|a| (a.start + start, a.score)).collect::<Vec<_>>());
    }
    let best: Vec<usize> = alone.iter().map(|answers| answers[0].0).collect();
    assert!(best.contains(&long[0].start), "{long:?} {best:?}");
    for answer in &long {
        assert_eq!(answer.answer, stretch(&context, answer.start, answer.end));
        assert!(model.tokenizer().encode(&answer.answer, false).unwrap().len() <= 4);
    }
}

/// The error of a call, which must contain `want`.
#[track_caller]
fn fails<T: std::fmt::Debug>(result: Result<T, Error>, want: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(want) && error.lines().count() == 1, "`{want}`: {error}");
}

#[test]
fn bad_calls_are_errors() {
    let open = |name: &str| Golden::open(name).folder;
    let mlm = FillMask::open(open("bert_mlm"), Device::cpu(), &options()).unwrap();
    fails(mlm.fill(&["[MASK]", "no mask"], 5), "text 2 holds no mask token `[MASK]`");
    fails(mlm.fill(&[""], 5), "text 1 holds no mask token");
    fails(mlm.fill(&["[MASK]"], 0), "at least 1");
    fails(mlm.fill(&[format!("{} [MASK]", long_text(90))], 5), "80 tokens");
    assert_eq!(mlm.fill(&["[MASK] [MASK]"], 9999).unwrap()[0][1].candidates.len(), 300);

    let cls = Classifier::open(open("bert_cls"), Device::cpu(), &options()).unwrap();
    let blank = cls.classify(&["", "Rain", " "]).unwrap();
    assert_eq!(blank.iter().map(|c| c.labels.len()).collect::<Vec<_>>(), [0, 2, 0]);
    assert_eq!(blank[1], cls.classify(&["Rain"]).unwrap()[0]);
    assert_eq!(cls.classify(&[""; 0]).unwrap(), []);
    let long = cls.classify(&[long_text(100), "Rain".to_owned()]).unwrap();
    assert_eq!((long[0].truncated > 0, long[1].truncated), (true, 0));

    let qa = Answerer::open(open("bert_qa"), Device::cpu(), &options()).unwrap();
    fails(qa.answer(&[("", "Rain")], AnswerOptions::default()), "question 1 holds no token");
    fails(qa.answer(&[("Who?", "")], AnswerOptions::default()), "context 1 holds no token");
    fails(
        qa.answer(&[(long_text(100), "Rain".to_owned())], AnswerOptions::default()),
        "leaves no room",
    );
    for zero in [(0, 15), (1, 0)] {
        let options = AnswerOptions { top_k: zero.0, max_tokens: zero.1 };
        fails(qa.answer(&[("Who?", "Rain")], options), "at least 1");
    }

    let none = TaskOptions { batch: 0, ..options() };
    fails(Tagger::open(open("bert_ner"), Device::cpu(), &none).map(|_| ()), "batch of 0");
    let wrong = |result: Result<(), Error>, class: &str| fails(result, class);
    let cpu = Device::cpu;
    wrong(FillMask::open(open("bert_cls"), cpu(), &options()).map(|_| ()), "ForMaskedLM");
    wrong(Tagger::open(open("bert_cls"), cpu(), &options()).map(|_| ()), "TokenClassification");
    wrong(Classifier::open(open("bert_qa"), cpu(), &options()).map(|_| ()), "needs Sequence");
    wrong(Answerer::open(open("bert_base"), cpu(), &options()).map(|_| ()), "needs Question");
    wrong(Classifier::open(open("gpt2"), cpu(), &options()).map(|_| ()), "needs Sequence");
}

#[test]
fn a_callback_can_stop_a_task() {
    use std::ops::ControlFlow;
    let folder = Golden::open("bert_cls").folder;
    let model = Classifier::open(folder, Device::cpu(), &options()).unwrap();
    let stopped = model.classify_with(&["Rain".into()], &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Cancelled)));
}
