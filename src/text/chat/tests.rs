#![cfg(test)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{ChatTemplate, Message};

fn template(source: &str) -> crate::Result<ChatTemplate> {
    ChatTemplate::new("tokenizer_config.json", source.to_owned(), Map::new())
}

/// What a template makes of one message.
fn render(source: &str) -> crate::Result<String> {
    template(source)?.render(&[Message::new("user", "Hi")], true)
}

/// A model folder of these files.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("tilewright-{name}-{}", std::process::id()));
        for (file, text) in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(root)
    }

    fn open(&self, name: Option<&str>) -> crate::Result<ChatTemplate> {
        ChatTemplate::open(&self.0, name)
    }

    fn render(&self, name: Option<&str>) -> String {
        self.open(name).unwrap().render(&[Message::new("user", "Hi")], false).unwrap()
    }

    fn error(&self, name: Option<&str>) -> String {
        self.open(name).unwrap_err().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// `tests/goldens/chat.json`, written by `tools/chat_cases.py`.
#[test]
fn texts_are_those_of_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/chat.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let tokens = golden["tokens"].as_object().unwrap();
    let cases = golden["cases"].as_array().unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["template"].as_str().unwrap();
        let source = golden["templates"][name].as_str().unwrap().to_owned();
        let conversation =
            &golden["conversations"][case["conversation"].as_u64().unwrap() as usize];
        let mut variables = conversation["variables"].clone();
        variables["add_generation_prompt"] = case["add_generation_prompt"].clone();
        let found = ChatTemplate::new(name, source, tokens.clone())
            .and_then(|template| template.render_with(&conversation["messages"], &variables));
        if found.as_ref().ok().map(String::as_str) != case["text"].as_str() {
            wrong.push(format!("{found:?}\n   for {case}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 45);
}

#[test]
fn templates_are_found_where_folders_keep_them() {
    let config = r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": true,
        "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token }}"}"#;
    let map = r#"{"eos_token": "no", "pad_token": {"content": "<pad>"}}"#;
    let text = Folder::new(
        "chat-text",
        &[("tokenizer_config.json", config), ("special_tokens_map.json", map)],
    );
    assert_eq!(text.render(None), "<s>Hi</s><pad>");
    assert_eq!(text.render(Some("default")), "<s>Hi</s><pad>");
    assert!(text.open(None).unwrap().path().ends_with("tokenizer_config.json"));
    assert!(
        text.error(Some("rag")).contains("no chat template `rag`"),
        "{}",
        text.error(Some("rag"))
    );

    let list = r#"{"chat_template": [{"name": "tool_use", "template": "T"},
        {"name": "default", "template": "D"}]}"#;
    let list = Folder::new("chat-list", &[("tokenizer_config.json", list)]);
    assert_eq!((list.render(None), list.render(Some("tool_use"))), ("D".into(), "T".into()));
    assert!(list.error(Some("x")).contains("no chat template `x`; it has `tool_use`, `default`"));

    let file = Folder::new(
        "chat-file",
        &[
            ("tokenizer_config.json", config),
            ("chat_template.jinja", "F{{ eos_token }}"),
            ("additional_chat_templates/rag.jinja", "R"),
            ("outside.jinja", "O"),
        ],
    );
    assert_eq!((file.render(None), file.render(Some("rag"))), ("F</s>".into(), "R".into()));
    assert!(file.error(Some("../outside")).contains("no chat template `../outside`"));

    let none = Folder::new("chat-none", &[("tokenizer_config.json", "{}")]);
    assert!(none.error(None).contains("the model has no chat template; chat_template.jinja or"));
    let wrong = Folder::new("chat-wrong", &[("tokenizer_config.json", r#"{"chat_template": 3}"#)]);
    assert!(wrong.error(None).contains("`chat_template` is 3; expected a text, or a list"));
    let unnamed = r#"{"chat_template": [{"template": "D"}]}"#;
    let unnamed = Folder::new("chat-unnamed", &[("tokenizer_config.json", unnamed)]);
    assert!(unnamed.error(None).contains("`chat_template` is an object of 1 keys"));
}

#[test]
fn what_a_template_refuses_is_said_in_its_words() {
    let error = render("a\n{{ raise_exception('no\nsystem role') }}").unwrap_err().to_string();
    assert_eq!(
        error,
        r"tokenizer_config.json: the chat template says: no\u{a}system role (line 2)"
    );
    let error = render("{{ messages[0].tools.name }}").unwrap_err().to_string();
    assert!(error.contains("the chat template has an error: undefined value"), "{error}");
}

#[test]
fn messages_with_tools_and_the_time() {
    let year = render("{{ strftime_now('%Y') }}").unwrap();
    assert!(year.len() == 4 && year.starts_with("20"), "{year}");
    assert!(render("{{ strftime_now('%') }}").is_err());
    let template = template("{% if tools is not none %}{{ tools[0].name }}{% endif %}!").unwrap();
    let messages = json!([]);
    assert_eq!(template.render_with(&messages, &json!({})).unwrap(), "!");
    let tools = json!({"tools": [{"name": "clock"}]});
    assert_eq!(template.render_with(&messages, &tools).unwrap(), "clock!");
}

/// 64 of the bad inputs: loops, nesting, growth, and ways out of the template.
#[test]
fn templates_that_never_end_or_escape_are_errors() {
    let deep =
        |open: &str, middle: &str, close: &str| open.repeat(6_000) + middle + &close.repeat(6_000);
    let long = |open: &str, middle: &str, close: &str| {
        format!("{{{{ {}{middle}{} }}}}", open.repeat(450), close.repeat(450))
    };
    let endless = "does not end within";
    let nested = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    let double =
        |each: &str| format!("{{% set ns = namespace(x={each}) %}}{{% for i in range(60) %}}");
    let cases: Vec<(&str, String, &str)> = vec![
        ("loops in loops", nested.into(), endless),
        ("a macro that calls itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(), ""),
        (
            "a recursive loop",
            "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}".into(),
            "",
        ),
        ("text doubled", double("'ab'") + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}", endless),
        ("text added", double("'ab'") + "{% set ns.x = ns.x + ns.x %}{% endfor %}", endless),
        (
            "a list doubled",
            double("[1]") + "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}",
            "",
        ),
        (
            "a list of itself as JSON",
            double("[1]") + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
            "",
        ),
        (
            "a wide list of itself as JSON",
            double("[1]")
                + "{% set ns.x = [ns.x] * (9 if i < 40 else 1) %}{% endfor %}{{ ns.x | tojson }}",
            "",
        ),
        (
            "a list of itself as text",
            double("[1]") + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
            "",
        ),
        (
            "replaced by more",
            double("'a'") + "{% set ns.x = ns.x.replace('a', 'aaaaaaaa') %}{% endfor %}",
            endless,
        ),
        (
            "a list doubled by a macro",
            "{% macro f(x) %}{{ f(x + x) }}{% endmacro %}{{ f([1]) }}".into(),
            "more than 131072 items",
        ),
        (
            "a list within itself",
            double("[]")
                + "{% for j in range(99) %}{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}",
            "nested more than 64 deep",
        ),
        (
            "a namespace within itself",
            "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".into(),
            "a namespace within a namespace",
        ),
        (
            "a namespace in a list within itself",
            "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}".into(),
            "a namespace within another value",
        ),
        (
            "a namespace printed with another",
            "{% set a = namespace(b=namespace()) %}{{ a }}".into(),
            "a namespace within another value",
        ),
        ("a list repeated", "{% for a in [[1] * 9999999] %}{{ a }}{% endfor %}".into(), endless),
        ("repeated", "{{ 'a' * 9999999999 }}".into(), ""),
        ("repeated a little", "{{ ('a' * 2000000) }}".into(), "a text of more than 1000000 bytes"),
        ("indented", "{{ 'a\nb' | indent(999999999) }}".into(), ""),
        ("formatted", "{{ '%999999999d' | format(1) }}".into(), ""),
        ("formatted by Python", "{{ '{:>999999999}'.format(1) }}".into(), "a width of more"),
        ("formatted by a value", "{{ '{:>{}}'.format(1, 999999999) }}".into(), "a width of more"),
        ("indented JSON", "{{ [1] | tojson(indent=99999999) }}".into(), "more than 64 spaces"),
        ("a long range", "{{ range(99999999999) | list }}".into(), ""),
        (
            "much output",
            "{% for i in range(9999) %}{{ 'a' * 999 }}{% endfor %}".into(),
            "1000000 bytes",
        ),
        ("parentheses", format!("{{{{ {} }}}}", deep("(", "1", ")")), ""),
        ("lists", format!("{{{{ {} }}}}", deep("[", "1", "]")), ""),
        ("signs", format!("{{{{ {}1 }}}}", "-".repeat(40_001)), ""),
        ("negations", format!("{{{{ {}1 }}}}", "not ".repeat(20_001)), ""),
        ("conditions", deep("{% if 1 %}", "", "{% endif %}"), ""),
        ("attributes", format!("{{{{ a{} }}}}", ".b".repeat(40_000)), ""),
        ("parentheses within the parts", long("(", "1", ")"), "recursion limit"),
        ("lists within the parts", long("[", "1", "]"), "recursion limit"),
        ("attributes within the parts", long("messages", "", ".a"), ""),
        ("sums within the parts", long("1+", "[]", "+1"), ""),
        ("a file", "{% include '/etc/passwd' %}".into(), "unknown statement include"),
        ("another file", "{% import 'a' as b %}".into(), "unknown statement import"),
        ("Python's inside", "{{ ''.__class__.__mro__ }}".into(), "undefined value"),
        ("no tag's end", "{% if".into(), "syntax error"),
        ("a loop without end", "{% for a in b %}".into(), "syntax error"),
        ("too long", "a".repeat((1 << 17) + 1), "a chat template of 131073 bytes"),
    ];
    for (name, source, expected) in cases {
        let start = Instant::now();
        let error = match render(&source) {
            Err(error) => error.to_string(),
            Ok(text) => panic!("{name}: {} bytes", text.len()),
        };
        let took = start.elapsed();
        assert!(error.starts_with("tokenizer_config.json: "), "{name}: {error}");
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.lines().count() == 1 && error.len() < 400, "{name}: {error}");
        // Much less on a machine that has nothing else to do.
        assert!(took < Duration::from_secs(3), "{name} took {took:?}");
        println!("{name}: {took:?}: {error}");
    }
}

#[test]
fn a_long_conversation_is_no_endless_one() {
    let source = "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + \
        message['content'].strip() | replace('x', 'y') + '<|end|>\\n' }}{% endfor %}";
    let messages: Vec<_> =
        (0..4000).map(|i| Message::new("user", format!("message {i} ").repeat(10))).collect();
    let text = template(source).unwrap().render(&messages, true).unwrap();
    assert!(text.len() > 500_000 && text.contains("message 3999"));
}
