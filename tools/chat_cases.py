"""Writes tests/goldens/chat.json: what transformers makes of chat templates.

The templates are small ones of our own, each for a habit of templates in use. A case has the
template, the conversation, further variables, and the text or null where the template refuses.

    python tools/chat_cases.py tests/goldens/chat.json
"""

import json
import sys

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATES = {
    "tags": """
{%- for message in messages %}
    {{- '<|' + message['role'] + '|>\\n' + message['content'] | trim + '<|end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n' }}
{%- endif %}
""",
    "turns": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}
{% set rest = messages[1:] %}
{% set system = messages[0]['content'].strip() %}
{% else %}
{% set rest = messages %}
{% endif %}
{% for message in rest %}
  {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('user and assistant must take turns, but turn ' ~ loop.index ~ ' is ' ~ message.role) }}
  {% endif %}
  {% if loop.first and system is defined %}[[{{ system }}]] {% endif %}
  {% if message.role == 'user' %}
Q: {{ message.content.strip() }}
  {%+ else %}
A: {{ message.content.lstrip('\\n') }}{{ eos_token }}
  {% endif %}
{% endfor %}""",
    "tools": """{%- macro describe(tool, width=2) -%}
{{ tool.function.name }}({% for name, kind in tool.function.parameters.properties.items() -%}
{{ name }}: {{ kind.type }}{{ ", " if not loop.last }}
{%- endfor %}) {{ tool | tojson(indent=width) }}
{%- endmacro %}
{%- if tools is iterable and tools | length > 0 %}
{%- for tool in tools %}{{ describe(tool, width=4) }}
{{ tool | tojson }}
{{ tool | tojson(separators=(',', ':'), sort_keys=true, ensure_ascii=true) }}
{% endfor %}
{%- endif %}
{%- for message in messages %}
{%- if message.tool_calls %}
{%- for call in message.tool_calls %}<call>{{ call.function | tojson }}</call>{% endfor %}
{%- elif message.content is string %}{{ message.role | upper }}: {{ message.content }}
{% else %}
{%- for part in message.content if part.type == 'text' %}{{ part.text }}{{ '' if loop.last else '|' }}{% endfor %}
{%- endif %}
{%- endfor %}""",
    "thinking": """{%- set ns = namespace(last=-1, seen=[]) %}
{%- for message in messages[::-1] %}
{%- set index = (messages | length - 1) - loop.index0 %}
{%- if ns.last < 0 and message.role == "user" and not (message.content.startswith('<r>') and message.content.endswith('</r>')) %}
{%- set ns.last = index %}
{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- set content = message.content %}
{%- set reasoning = '' %}
{%- if message.reasoning_content is string %}
{%- set reasoning = message.reasoning_content %}
{%- elif '</think>' in content %}
{%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{%- if loop.index0 > ns.last and reasoning %}({{ reasoning.strip('\\n') }}){% endif %}
{{ message.role }}{{ ns.last }}: {{ content | replace('a', 'A') | title }}
{%- endfor %}
{%- if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}""",
    "training": """{% for message in messages %}
{%- if message.role == 'assistant' %}
{% generation %}
{% set inside = 'x' %}
{{ message.content }}{{ eos_token }}
{%- endgeneration -%}
{% else %}{{ message.content }}
{% endif %}
{% endfor %}{{ inside is defined }}""",
    "values": """{{ none }} {{ true }} {{ [1, 'a', none, false, 1.5] }} {{ {'k': "it's"} }} {{ unknown }}.
{{ 7 // 2 }} {{ 7 / 2 }} {{ 7 % 4 }} {{ 2 ** 5 }} {{ -7 // 2 }} {{ 'ab' * 3 }} {{ 1 ~ 'x' ~ none }}
{{ messages[-1].content[:3] }} {{ messages[0].content[::-1] }} {{ messages | map(attribute='role') | join(',') }}
{{ (messages | selectattr('role', 'equalto', 'user') | list)[0]['role'] }} {{ messages | first == messages[0] }}
{{ 'a,b,,c'.split(',') }} {{ ' a b '.split() }} {{ 'x'.join(['a', 'b']) }} {{ 'Abc'.lower().upper() }} {{ 'a-b'.replace('-', '+') }}
{{ none is iterable }} {{ 'a' is iterable }} {{ [] is iterable }} {{ 3 is iterable }} {{ {} is iterable }} {{ unknown is iterable }}
{{ 'a' is sequence }} {{ [] is sequence }} {{ {} is sequence }} {{ none is sequence }} {{ 3 is sequence }}
{{ {} is mapping }} {{ [] is mapping }} {{ 3 is number }} {{ 'a' is string }} {{ none is none }} {{ tools is none }} {{ documents is not none }}
{{ "a" "b" }} {{ 'é' | length }} {{ '<&>' }} {{ '<&>' | e }} {{ [3, 1, 2] | sort }} {{ {'b': 1, 'a': 2} | dictsort }} {{ 'x' in ['x'] }}
{{ messages[0].get('name', 'nobody') }} {{ messages[0].get('name') is none }} {{ messages[0].name is defined }} {{ 'name' in messages[0] }}
{{ 'a\\tb' }} {{ dict(a=1)['a'] }} {{ range(3) | list }} {{ '%s-%d' | format('a', 3) }} {{ '{}-{:>3}'.format('a', 3) }} {{ 'x'.ljust(3) if false else 'no' }} {{ 3.0 }} {{ 10 | string + '1' }}""",
    "loops": """{% for message in messages %}
{% if message.role == 'system' %}{% continue %}{% endif %}
{% if loop.index > 3 %}{% break %}{% endif %}
{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem.role if loop.previtem is defined else '-' }}{{ loop.nextitem.role if loop.nextitem is defined else '-' }}{{ loop.cycle('a', 'b') }}
{% else %}
nobody
{% endfor %}
  {#- a comment -#}
  {% set text %}in {{ messages | length }} {% endset %}
{{ text | trim }}.
{% raw %}{{ raw }}{% endraw %}
{% filter upper %}loud{% endfilter %}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}
{% macro say() %}<{{ caller('hey') }}>{% endmacro %}
{% call(x) say() %}{{ x }}!{% endcall %}""",
}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'The <weather> & "time" of a città',
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "number", "enum": [1, 2.5, True, None]}},
                "required": [],
                "more": {},
            },
        },
    }
]

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Città", "days": 1}}}


def message(role, content, **more):
    return {"role": role, "content": content, **more}


CONVERSATIONS = [
    ([message("user", "Hello there ")], {}),
    ([message("system", " Be brief.\n"), message("user", "Hi\n"), message("assistant", "\nYes?"), message("user", "<b> & 'c'")], {}),
    ([message("user", "one"), message("user", "two")], {}),
    ([message("assistant", "<think>\nhm\n</think>\n\nan answer"), message("user", "<r>a</r>")], {"enable_thinking": False}),
    ([message("user", "why"), message("assistant", "because", reasoning_content="\nlong\n")], {"enable_thinking": True}),
    ([message("user", "rain?"), message("assistant", "", tool_calls=[CALL])], {"tools": TOOLS}),
    ([message("user", [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}])], {"tools": []}),
]

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def render(template, messages, variables, prompt):
    variables = dict(variables)
    try:
        texts, _ = render_jinja_template(
            [messages],
            tools=variables.pop("tools", None),
            chat_template=template,
            add_generation_prompt=prompt,
            **TOKENS,
            **variables,
        )
    except (jinja2.TemplateError, TypeError, AttributeError):
        return None
    return texts[0]


def main():
    cases = []
    for name, template in TEMPLATES.items():
        for i, (messages, variables) in enumerate(CONVERSATIONS):
            text = render(template, messages, variables, prompt=i % 2 == 0)
            cases.append({"template": name, "conversation": i, "add_generation_prompt": i % 2 == 0, "text": text})
    conversations = [{"messages": messages, "variables": variables} for messages, variables in CONVERSATIONS]
    with open(sys.argv[1], "w") as file:
        whole = {"tokens": TOKENS, "templates": TEMPLATES, "conversations": conversations, "cases": cases}
        json.dump(whole, file, ensure_ascii=False, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
