#!/usr/bin/env python3
"""Writes tokenizer/chat.json: conversations as transformers' apply_chat_template gives them; --check makes them again
and compares.

The templates are written here, in the code by which the published ones of each family are recognised and without what
those have for tools. For each there is a second one with Jinja's {% generation %} around answers, from which transformers
tells which tokens are of answers. "conversations" has lists of messages. By name: tokenizer, template, and cases with the
number of the conversation, options (add_generation_prompt, enable_thinking, date_string), text, tokens, and answer: one
digit for each token. `error` is true where the template refuses the messages.
"""

import json
import sys

import jinja2
import transformers

import tokenizer_golden

# $ANSWER(X, Y) is X + Y: what comes before an answer, and the answer, which is the generation.
TURN = "'<|im_start|>' + message['role'] + '\\n'"
CHATML_TURN = "{{$ANSWER(" + TURN + ", message['content'] + '<|im_end|>')NEXT + '\\n'}}"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
HEADER = "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
LLAMA3_TURN = "$ANSWER(" + HEADER + ", message['content'] | trim + '<|eot_id|>')"
LLAMA3_PROMPT = "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
ALTERNATE = ("{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
             "{% endif %}")
SPLIT_SYSTEM = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
                "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}")
LLAMA31 = """{{- bos_token }}
{%- if not date_string is defined %}
    DATE
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}{{- """ + LLAMA3_TURN + """ }}{%- endfor %}""" + LLAMA3_PROMPT
MISTRAL_SYSTEM = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("roles must alternate") }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.PLACE and system_message is defined %}
            {{- "B[INST] " + system_message + "\\n\\n" + message["content"] + "A[/INST]" }}
        {%- else %}
            {{- "B[INST] " + message["content"] + "A[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- $ANSWER(, " " + message["content"]TRIM + eos_token) }}
    {%- endif %}
{%- endfor %}"""
QWEN3 = """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or (not loop.last and reasoning_content)) %}
            {{- $ANSWER('<|im_start|>' + message.role + '\\n', '<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') + '<|im_end|>') }}
        {%- else %}
            {{- $ANSWER('<|im_start|>' + message.role + '\\n', content + '<|im_end|>') }}
        {%- endif %}
        {{- '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
QWEN25 = """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nAnswer in {}, \\'please\\'.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant") %}
        {{- $ANSWER('<|im_start|>' + message.role + '\\n', message.content + '<|im_end|>')NEXT + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

TEMPLATES = {
    "chatml": ("gpt2", "{% for message in messages %}" + CHATML_TURN + "{% endfor %}" + PROMPT),
    "smollm2": ("smollm", "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
                "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}" + CHATML_TURN + "{% endfor %}" + PROMPT),
    "qwen2.5": ("qwen2", QWEN25),
    "qwen3": ("qwen2", QWEN3),
    "llama2": ("llama2", SPLIT_SYSTEM + "{% set system_message = false %}{% endif %}{% for message in loop_messages %}" + ALTERNATE +
               "{% if loop.index0 == 0 and system_message != false %}"
               "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
               "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
               "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
               "{{ $ANSWER(, ' '  + content.strip() + ' ' + eos_token) }}{% endif %}{% endfor %}"),
    "llama3": ("llama3", "{% set loop_messages = messages %}{% for message in loop_messages %}"
               "{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}{{ " + LLAMA3_TURN + " }}{% endfor %}" + LLAMA3_PROMPT),
    "llama3.1": ("llama3", LLAMA31.replace("DATE", '{%- set date_string = "26 Jul 2024" %}')),
    "llama3.2": ("llama3", LLAMA31.replace("DATE", '{%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}'
                                           '{%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}')),
    "mistral_v1": ("llama2", "{{ bos_token }}{% for message in messages %}" + ALTERNATE +
                   "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
                   "{% elif message['role'] == 'assistant' %}{{ $ANSWER(, message['content'] + eos_token)NEXT + ' ' }}"
                   "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"),
    "mistral_v1_system": ("mistral", MISTRAL_SYSTEM.replace("PLACE", "first").replace("B[", " [").replace("A[", " [").replace("TRIM", "")),
    "mistral_v3": ("mistral", MISTRAL_SYSTEM.replace("PLACE", "last").replace("B[", "[").replace("A[", "[").replace("TRIM", "|trim")),
}

SHORT = [["user", "Hello"], ["assistant", "Hi there!"]]
LONG = [["system", "Be brief."], ["user", "  Say 123, it's\n"], ["assistant", "\n\n 123 ünï 漢字 "],
        ["user", "def f(x):\n    return x"], ["assistant", "OK.\n"], ["user", "\u00a0e\u0301 more"]]
CONVERSATIONS = [SHORT, LONG, LONG[1:5], [["user", ""]], [["user", "a"], ["assistant", ""]]]
THOUGHTS = [
    [["user", "Q"], ["assistant", "<think>\nhm\n</think>\n\nA"], ["user", "R"], ["assistant", "<think>\n\nwell\n\n</think>\n\n\nB"]],
    [["user", "Q"], ["assistant", "<think>one</think>A"], ["user", "<tool_response>x</tool_response>"], ["assistant", "no"], ["assistant", "\nB"]],
]


def templates(text):
    """The template, and that with {% generation %} around answers."""
    begin, _, rest = text.partition("$ANSWER(")
    if not rest:
        return text, text
    depth, comma, at = 1, None, 0
    while depth:
        depth += {"(": 1, ")": -1}.get(rest[at], 0)
        comma = at if rest[at] == "," and depth == 1 and comma is None else comma
        at += 1
    before, answer, rest = rest[:comma].strip(), rest[comma + 1 : at - 1].strip(), rest[at:].removeprefix("NEXT")
    plain, marked = templates(rest)
    is_first = "" if before else "''"
    role = "{% if message['role'] == 'assistant' %}{% generation %}{{ " + answer + " }}{% endgeneration %}{% else %}{{ " + answer + " }}{% endif %}"
    return (begin + (before + " + " if before else "") + answer + plain,
            begin + (before or is_first) + " }}" + role + "{{ ''" + marked)


def cases(fast, template, marked, has_thoughts, has_date):
    for number, messages in enumerate(CONVERSATIONS + (THOUGHTS if has_thoughts else [])):
        asks = messages[-1][0] == "user"
        options = {"add_generation_prompt": asks}
        if has_date:  # the rest is as in Llama 3.1
            options["date_string"] = "05 Mar 2025"
            if messages is not LONG:
                continue
        variants = [options] + ([options | {"enable_thinking": False}] if has_thoughts and asks else [])
        for variant in variants:
            case = {"conversation": number, "options": variant}
            said = [{"role": role, "content": content} for role, content in messages]
            try:
                text = fast.apply_chat_template(said, chat_template=template, tokenize=False, **variant)
            except jinja2.TemplateError:
                yield case | {"error": True}
                continue
            both = fast.apply_chat_template(said, chat_template=marked, tokenize=False, **variant)
            assert both == text, (both, text)
            made = fast.apply_chat_template(said, chat_template=marked, return_dict=True, return_assistant_tokens_mask=True, **variant)
            answer = "".join(map(str, made["assistant_masks"]))
            yield case | {"text": text, "tokens": made["input_ids"], "answer": answer}


def make():
    vocabularies = json.loads((tokenizer_golden.FOLDER / "vocabularies.json").read_text())
    subjects = {name: (tokenizer, config) for name, _, tokenizer, config, _ in tokenizer_golden.subjects(vocabularies)}
    result = {"made_by": f"tests/golden/chat_golden.py with transformers {transformers.__version__}",
              "conversations": CONVERSATIONS + THOUGHTS}
    for name, (tokenizer, text) in TEMPLATES.items():
        rust, config = subjects[tokenizer]
        eos = config["eos_token"]
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=rust, bos_token=config["bos_token"],
                                                    eos_token=eos if isinstance(eos, str) else eos["content"])
        template, marked = templates(text)
        made = list(cases(fast, template, marked, name == "qwen3", name == "llama3.2"))
        result[name] = {"tokenizer": tokenizer, "template": template, "cases": made}
    return tokenizer_golden.dump(result)


def main():
    path, text = tokenizer_golden.FOLDER / "chat.json", make()
    if "--check" not in sys.argv:
        path.write_text(text)
        print(f"wrote tokenizer/chat.json {path.stat().st_size} bytes")
        return False
    same = path.exists() and path.read_text() == text
    print(f"{'ok  ' if same else 'FAIL'} tokenizer/chat.json: {'as' if same else 'differs from what is'} made now")
    return not same


if __name__ == "__main__":
    sys.exit(main())
