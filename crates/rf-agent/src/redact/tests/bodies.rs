//! Secrets in bodies of each shape, and in texts within them.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::*;

#[test]
fn fields_of_json_are_masked_at_any_depth_and_the_rest_stays() {
    let redactor = usual(json!({}));
    let check =
        |body: &str, expected: &str| check_body(&redactor, "application/json", body, expected);
    check(r#"{"a":1, "password" : "x" ,"b":[2]}"#, r#"{"a":1, "password" : "***" ,"b":[2]}"#);
    check(
        r#"{"u":[{"Access_Token":"x"},{"n":null}]}"#,
        r#"{"u":[{"Access_Token":"***"},{"n":null}]}"#,
    );
    check(r#"{"secret":{"a":["}",1]},"z":1}"#, r#"{"secret":"***","z":1}"#);
    check(r#"{"token":12,"pwd":true,"cvv":null}"#, r#"{"token":"***","pwd":"***","cvv":"***"}"#);
    check(r#"{"password":"a\"b\\","z":"password"}"#, r#"{"password":"***","z":"password"}"#);
    check(r#"{"pass\u0077ord":"x"}"#, r#"{"pass\u0077ord":"***"}"#);
    check("{\"token\":\"a\"}\n{\"token\":\"b\"}\n", "{\"token\":\"***\"}\n{\"token\":\"***\"}\n");
    check(r#"{"a":1 "password":"x"}"#, r#"{"a":1 "password":"***"}"#);
    check(r#"{"tokens":3,"no":"secret"}"#, r#"{"tokens":3,"no":"secret"}"#);
    check(r#"{"payload":"{\"password\":\"x\"}"}"#, r#"{"payload":"{\"password\":\"***\"}"}"#);
    check(r#"[[[["password","x"]]]]"#, r#"[[[["password","x"]]]]"#);
}

#[test]
fn forms_multipart_and_xml_are_masked() {
    let redactor = usual(json!({}));
    let form = "application/x-www-form-urlencoded";
    check_body(
        &redactor,
        form,
        "a=1&p%61ssword=x%26y&b=&token=",
        "a=1&p%61ssword=***&b=&token=***",
    );
    check_body(&redactor, form, "user[password]=x&user[name]=y", "user[password]=***&user[name]=y");
    check_body(&redactor, "", "user=a;pwd=b", "user=a;pwd=***");
    check_body(
        &redactor,
        "application/xml",
        r#"<s:a xmlns:s="u"><s:Password type="t">x</s:Password><b Token='y' n="z"/></s:a>"#,
        r#"<s:a xmlns:s="u"><s:Password type="t">***</s:Password><b Token='***' n="z"/></s:a>"#,
    );
    let part = |name: &str, content: &str| {
        format!(
            "--B\r\nContent-Disposition: form-data; filename=\"f\"; name=\"{name}\"\r\n\r\n{content}\r\n"
        )
    };
    let body = [
        part("a", "1"),
        part("secret", "x\r\ny"),
        part("j", r#"{"token":"x"}"#),
        "--B--\r\n".to_owned(),
    ]
    .concat();
    let expected = [
        part("a", "1"),
        part("secret", "***"),
        part("j", r#"{"token":"***"}"#),
        "--B--\r\n".to_owned(),
    ]
    .concat();
    check_body(&redactor, "multipart/form-data; boundary=\"B\"", &body, &expected);
}

#[test]
fn no_quote_in_xml_hides_what_stands_behind_it() {
    let redactor = usual(json!({}));
    for before in [
        "<!-- don't -->",
        "<!-- say \"no -->",
        "<!-- a='don't' -->",
        "<![CDATA[O'Neil]]>",
        "<?x don't?>",
        "<n>O'Neil</n>",
        "<!DOCTYPE r [<!ENTITY e \"it's\">]>",
        "<n don't>x</n>",
        "<n a=\">\" b='it>s'/>",
        "<n a='open/>",
    ] {
        let body = format!("<r>{before}<password>x</password><o token = \"x\"/></r>");
        let expected = format!("<r>{before}<password>***</password><o token = \"***\"/></r>");
        check_body(&redactor, "application/xml", &body, &expected);
    }
    // What is no longer in use may still be a secret.
    for (body, expected) in [
        ("<r><!-- <password>x</password> --></r>", "<r><!-- <password>***</password> --></r>"),
        ("<r><![CDATA[<b token='x'/>]]></r>", "<r><![CDATA[<b token='***'/>]]></r>"),
        ("<?cfg don't token=\"x\"?><r/>", "<?cfg don't token=\"***\"?><r/>"),
        ("<r><a token='x<y' b='z'/></r>", "<r><a token='***' b='z'/></r>"),
        ("<r><a token='x<y' otp='z'/></r>", "<r><a token='***' otp='***'/></r>"),
        ("<r><a b='x<y' otp='z'/></r>", "<r><a b='x<y' otp='***'/></r>"),
    ] {
        check_body(&redactor, "text/xml", body, expected);
    }
    let stray = BodyForm { content_type: b"text/xml", ..WHOLE };
    let masked = text(&redactor.body(b"<r><password n='<'>hunter</password><a/></r>", stray));
    assert!(!masked.contains("hunter") && masked.ends_with("</password><a/></r>"), "{masked}");
}

#[test]
fn json_is_found_in_what_is_around_it() {
    let redactor = usual(json!({}));
    let json = |value: &str| format!(r#"{{"a":1,"password":{value},"u":{{"token":[{value}]}}}}"#);
    let (plain, masked) = (json("\"x\""), json("\"x\"").replace("[\"x\"]", "\"***\""));
    let masked = masked.replace("\"x\"", "\"***\"");
    for (content_type, before, after) in [
        ("application/json", ")]}',\n", ""),
        ("application/json", "while(1);", ""),
        ("application/json", "// don't, 5\" wide\n", "\n"),
        ("application/json", "/* \" */", ""),
        ("application/json-seq", "\x1e", "\n"),
        ("application/javascript", "cb(", ");"),
        ("text/event-stream", "event: x\ndata: ", "\n\n"),
        ("text/plain", ")]}',\n", ""),
        ("", "cb(", ")"),
    ] {
        let (body, expected) =
            (format!("{before}{plain}{after}"), format!("{before}{masked}{after}"));
        check_body(&redactor, content_type, &body, &expected);
    }
    let text = |value: &str| serde_json::to_string(value).unwrap();
    check_body(&redactor, "application/json", &text(&plain), &text(&masked));
    check_body(&redactor, "application/json", "a=b&password=x", "a=b&password=***");
    check_body(
        &redactor,
        "text/event-stream",
        "data: https://a/?token=x \"b\"\n\n",
        "data: https://a/?token=*** \"b\"\n\n",
    );
    check_body(
        &redactor,
        "application/x-www-form-urlencoded",
        "password=x&j={\"token\":\"x\"}",
        "password=***&j={\"token\":\"***\"}",
    );
}

#[test]
fn an_element_of_xml_is_masked_up_to_its_own_end() {
    let redactor = usual(json!({}));
    for (body, expected) in [
        (
            "<r><token><tokenType>b</tokenType><value>x</value></token><a/></r>",
            "<r><token>***</token><a/></r>",
        ),
        (
            "<r><password><password>x</password>y</password><a/></r>",
            "<r><password>***</password><a/></r>",
        ),
        ("<r><password><password/>y</password><a/></r>", "<r><password>***</password><a/></r>"),
        ("<r><password>x</passwordx>y</password ><a/></r>", "<r><password>***</password ><a/></r>"),
        (
            "<r><password><![CDATA[a</password>y]]></password><a/></r>",
            "<r><password>***</password><a/></r>",
        ),
        (
            "<r><password><!-- </password> -->y</password><a/></r>",
            "<r><password>***</password><a/></r>",
        ),
        (
            "<r><credentials user=\"x\" pin='x' xmlns:n=\"u\" Type=\"t\"/><b pin='1'/></r>",
            "<r><credentials user=\"***\" pin='***' xmlns:n=\"u\" Type=\"t\"/><b pin='1'/></r>",
        ),
        (
            "<r><u>https://u:x@h/?a=1&amp;token=x</u></r>",
            "<r><u>https://***@h/?a=1&amp;token=***</u></r>",
        ),
        ("<r>{\"password\":\"x\"}</r>", "<r>{\"password\":\"***\"}</r>"),
    ] {
        check_body(&redactor, "text/xml", body, expected);
    }
}

#[test]
fn texts_within_texts_are_looked_into() {
    let redactor = usual(json!({}));
    let form = "application/x-www-form-urlencoded";
    for (body, expected) in [
        ("p=%7B%22token%22%3A%22x%22%7D&b=1", "p=%7B%22token%22%3A%22***%22%7D&b=1"),
        (
            "u=http%3A%2F%2Fa%2F%3Fx%3D1%26token%3Dx&b=1",
            "u=http%3A%2F%2Fa%2F%3Fx%3D1%26token%3D***&b=1",
        ),
        (
            "u=http%253A%252F%252Fa%252F%253Ftoken%253Dx",
            "u=http%253A%252F%252Fa%252F%253Ftoken%253D***",
        ),
        ("u=http%3A%2F%2Fu%3Ax%40h%2Fp&b=1", "u=http%3A%2F%2F***%40h%2Fp&b=1"),
        (
            "x=%3Cr%3E%3Cpwd%3Ex%3C%2Fpwd%3E%3C%2Fr%3E",
            "x=%3Cr%3E%3Cpwd%3E***%3C%2Fpwd%3E%3C%2Fr%3E",
        ),
        ("a=%7B%22b%22%3A+1%7D&c=%20+d", "a=%7B%22b%22%3A+1%7D&c=%20+d"),
    ] {
        check_body(&redactor, form, body, expected);
    }
    for (body, expected) in [
        (
            r#"{"u":"https://a/?x=1&X-Amz-Signature=x","z":1}"#,
            r#"{"u":"https://a/?x=1&X-Amz-Signature=***","z":1}"#,
        ),
        (r#"{"u":"https://a/?x=1\u0026sig=x","z":1}"#, r#"{"u":"https://a/?x=1&sig=***","z":1}"#),
        (r#"{"u":"https:\/\/u:x@h\/"}"#, r#"{"u":"https://***@h/"}"#),
        (r#"{"b":"user=a&password=x"}"#, r#"{"b":"user=a&password=***"}"#),
        (r#"{"d":"host=h user=a password=x"}"#, r#"{"d":"host=h user=a password=***"}"#),
        (
            r#"{"h":"<a href=\"https://a/?token=x&amp;b=1\">c</a>"}"#,
            r#"{"h":"<a href=\"https://a/?token=***&amp;b=1\">c</a>"}"#,
        ),
        (r#"{"x":"\u003cpwd\u003ex\u003c/pwd\u003e"}"#, r#"{"x":"<pwd>***</pwd>"}"#),
        (r#"{"m":"[a](http://a/?token=x)"}"#, r#"{"m":"[a](http://a/?token=***"}"#),
        (
            r#"{"n":"cn=a,dc=b,dc=c","h":"abc==","k":"key=1","e":"a@b.c","i":"docker://a:b"}"#,
            r#"{"n":"cn=a,dc=b,dc=c","h":"abc==","k":"key=1","e":"a@b.c","i":"docker://a:b"}"#,
        ),
    ] {
        check_body(&redactor, "application/json", body, expected);
    }
    check_body(
        &redactor,
        "text/html",
        "<a href=\"/r?token=x\" key=\"1\"><script>s={\"jwt\":\"x\"}",
        "<a href=\"/r?token=***\" key=\"1\"><script>s={\"jwt\":\"***\"}",
    );
    for innermost in [r#"{"password":"hunter"}"#, "http://user:hunter@host"] {
        let mut nested = innermost.to_owned();
        for _ in 0..7 {
            nested = json!({ "a": nested }).to_string();
            let masked = text(&redactor.body(nested.as_bytes(), WHOLE));
            assert!(!masked.contains("hunter"), "{masked}");
        }
    }
    let mut encoded = "token=hunter".to_owned();
    for _ in 0..7 {
        encoded = utf8_percent_encode(&encoded, NON_ALPHANUMERIC).to_string();
        let body = format!("a={encoded}");
        let masked = text(&redactor.body(body.as_bytes(), BodyForm { content_type: b"", ..WHOLE }));
        assert!(!masked.contains("hunter"), "{masked}");
    }
}

#[test]
fn nothing_of_a_secret_stands_behind_its_mask() {
    let redactor = usual(json!({}));
    let form = "application/x-www-form-urlencoded";
    for (content_type, body, expected) in [
        (form, "password=a;x&b=1", "password=***&b=1"),
        (form, "password=a?x&b=1", "password=***&b=1"),
        (form, "password=a#x=y&b=1", "password=***&b=1"),
        (form, "+password=x", "+password=***"),
        (form, "[a]=1&password=x", "[a]=1&password=***"),
        (form, "j={\"password\":\"a&x\"}&b=1", "j={\"password\":\"***\"}&b=1"),
        (
            form,
            "credentials[user]=x&credentials[pin]=x&u[0][pwd][]=x&t=1",
            "credentials[user]=***&credentials[pin]=***&u[0][pwd][]=***&t=1",
        ),
        ("text/plain", "a=1\r\npassword=x\r\nb=2\r\n", "a=1\r\npassword=***\r\nb=2\r\n"),
        ("text/plain", "privateKey=x\nx\nx==\nb=2", "privateKey=***\nb=2"),
        ("text/plain", "t=1 user=a password=x y\nb=1", "t=1 user=a password=***\nb=1"),
        ("", "password=a\"x", "password=***"),
    ] {
        check_body(&redactor, content_type, body, expected);
    }
    for (value, rest) in [
        ("/* c, */ \"x\"", ",\"b\":1}"),
        ("// c\n \"x\"", ",\"b\":1}"),
        ("'a,x'", ",\"b\":1}"),
        ("\"a\" \"x\"", ",\"b\":1}"),
        ("x x", ",\"b\":1}"),
        ("12", " ,\"b\":1}"),
        ("\"a\"x\",\"b\":1}", ""),
    ] {
        let (body, expected) =
            (format!("{{\"password\":{value}{rest}"), format!("{{\"password\":\"***\"{rest}"));
        check_body(&redactor, "application/json", &body, &expected);
    }
}

#[test]
fn no_comment_hides_a_secret() {
    let redactor = usual(json!({ "fields": ["user.pin"] }));
    for (body, expected) in [
        (r#"{"password"/*y*/:"x","b":1}"#, r#"{"password"/*y*/:"***","b":1}"#),
        (r#"{"password" /* y */ : "x"}"#, r#"{"password" /* y */ : "***"}"#),
        ("{\"otp\" // a:\n /*/ \"c\": */ :1}", "{\"otp\" // a:\n /*/ \"c\": */ :\"***\"}"),
        ("{\"otp\"//a\r:1}", "{\"otp\"//a\r:\"***\"}"),
        (r#"{"user"/*,*/:{"pin"/**/:2}}"#, r#"{"user"/*,*/:{"pin"/**/:"***"}}"#),
        (r#"{"password":{"a":1,/*},*/"b":"x"},"c":2}"#, r#"{"password":"***","c":2}"#),
        ("{\"password\":[1, // ]\n \"x\"],\"c\":2}", "{\"password\":\"***\",\"c\":2}"),
        (r#"{"password":{'a':'/*}', "b":"it's"},"c":2}"#, r#"{"password":"***","c":2}"#),
        (r#"{"password":"x" /* , */,"b":1}"#, r#"{"password":"***","b":1}"#),
        ("{\"password\":\"x\" // a, b\n,\"c\":1}", "{\"password\":\"***\"\n,\"c\":1}"),
        (r#"{"token":http://a/b, "c":1}"#, r#"{"token":"***", "c":1}"#),
        // What stands in a comment is no part of a path, unless all of it does.
        (r#"{"user": /* a, b */ {"pin":2}}"#, r#"{"user": /* a, b */ {"pin":"***"}}"#),
        (r#"{"user":/* a, b */{"pin":2}}"#, r#"{"user":/* a, b */{"pin":"***"}}"#),
        ("{\"user\":// a, b\n{\"pin\":2}}", "{\"user\":// a, b\n{\"pin\":\"***\"}}"),
        (
            "{/* \"otp\": \"x\" */\n\"user\": /* a, b */ {\"pin\":2}}",
            "{/* \"otp\": \"***\"\n\"user\": /* a, b */ {\"pin\":\"***\"}}",
        ),
        ("{\"password\":{\u{a0}'a}':1,\"b\":\"x\"}}", "{\"password\":\"***\"}"),
        (r#"{"user":{/* } */"pin":2}}"#, r#"{"user":{/* } */"pin":"***"}}"#),
        (r#"{"user":{/* 3.5" */"pin":2}}"#, r#"{"user":{/* 3.5" */"pin":"***"}}"#),
        (r#"{/*"user":{"pin":2},*/"a":1}"#, r#"{/*"user":{"pin":"***"},*/"a":1}"#),
        // Blanks and ends of lines are those of JSON5.
        ("{\"password\"\u{a0}\u{feff}:\"x\"}", "{\"password\"\u{a0}\u{feff}:\"***\"}"),
        (
            "{\"password\" // a\u{2028}:\"x\",\n\"b\":1}",
            "{\"password\" // a\u{2028}:\"***\",\n\"b\":1}",
        ),
        // A comment whose end is missing reaches to the end.
        (r#"{"password":{"a":1,/*},"b":"x"}"#, r#"{"password":"***""#),
        (r#"{"password"/* "b":"x""#, r#"{"password":"***""#),
        (r#"{"a"/* "b":"x""#, r#"{"a"/* "b":"x""#),
    ] {
        check_body(&redactor, "application/json", body, expected);
        check_body(&redactor, "", body, expected);
    }
}

#[test]
fn parts_are_told_apart_as_servers_do_or_left_out() {
    let redactor = usual(json!({}));
    let kind = "multipart/form-data; boundary=B";
    let body = |head: &str, content: &str| {
        format!("--B\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n--B--\r\n")
    };
    let check = |content_type: &str, head: &str, content: &str, expected: &str| {
        check_body(&redactor, content_type, &body(head, content), &body(head, expected));
    };
    check(kind, "name*=utf-8''password", "x", "***");
    check(kind, "name = password", "x", "***");
    check(kind, "x=name=password=y", "x", "***");
    check(kind, "filename=\"a; name=b\"; name=\"password\"", "x", "***");
    check(kind, "name=\"password\"", "a--By\r\n--Bz\r\n\r\nx", "***");
    check("multipart/form-data; notboundary=A; boundary=B", "name=\"password\"", "x", "***");
    check("multipart/form-data", "name=\"password\"", "x", "***");
    check(kind, "name=\"next\"", "/a?token=x", "/a?token=***");
    check(kind, "name=\"a\"\r\nContent-Type: text/xml", "<pwd>x</pwd>", "<pwd>***</pwd>");
    check(kind, "name=\"a\"\r\nContent-Type: text/plain", "{\0\"", "***");
    let inner = |content: &str| format!("--C\r\nX: y; name=\"otp\"\r\n\r\n{content}\r\n--C--");
    let mixed = "name=\"a\"\r\nContent-Type: multipart/mixed; boundary=C";
    check(kind, mixed, &inner("x"), &inner("***"));
    let bare = |content: &str| body("name=\"password\"", content).replace("\r\n", "\n");
    check_body(&redactor, kind, &bare("x"), &bare("***"));
    let form = BodyForm { content_type: b"multipart/form-data", ..WHOLE };
    let unknown = format!("preamble\r\n{}", bare("x"));
    assert!(matches!(redactor.body(unknown.as_bytes(), form), Redacted::Omitted(_)));
}

#[test]
fn a_body_of_quotes_is_looked_through_once() {
    let redactor = usual(json!({}));
    for piece in ["\"", "\\\"", "\\\\\"", "\":", "<a b='", "<!\""] {
        let body = piece.repeat(100_000);
        for content_type in ["application/json", "application/xml", "text/plain"] {
            check_body(&redactor, content_type, &body, &body);
        }
    }
    let head = format!("--B\r\n{}\r\n\r\nx\r\n--B--\r\n", "name=".repeat(100_000));
    check_body(&redactor, "multipart/form-data; boundary=B", &head, &head);
}

#[test]
fn a_body_of_comments_is_looked_through_a_few_times_at_the_most() {
    let redactor = usual(json!({}));
    for piece in ["\"a\"/*", "\"a\"//", "/*\"a\"/**/"] {
        let body = piece.repeat(30_000);
        for content_type in ["application/json", "text/plain"] {
            check_body(&redactor, content_type, &body, &body);
        }
        // What is not looked through may hide a colon.
        let body = format!("[{body}\"password\"/**/:\"x\"");
        let masked = text(&redactor.body(body.as_bytes(), WHOLE));
        assert!(!masked.contains("\"x\""), "{piece}");
    }
}
