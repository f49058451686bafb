"""A Redis URL is read, or refused with a message that shows no part of it."""

from pathlib import Path

import pytest

from service.redis_client.url import DeploymentKind, read_url

THIS_FILE = str(Path(__file__))


def test_a_plain_url_has_default_port_and_database() -> None:
    found = read_url("redis://127.0.0.1")

    assert (found.hosts, found.tls, found.kind) == (
        (("127.0.0.1", 6379),),
        False,
        DeploymentKind.SINGLE,
    )
    assert found.options == {"db": 0}


def test_user_and_password_are_decoded() -> None:
    found = read_url("rediss://ada:p%40ss%2Fword@redis.example:6380/3")

    assert found.hosts == (("redis.example", 6380),)
    assert found.options == {"username": "ada", "password": "p@ss/word", "db": 3}
    assert found.tls


def test_a_password_needs_no_user() -> None:
    assert read_url("redis://:pepper@127.0.0.1").options == {"password": "pepper", "db": 0}


def test_a_cluster_may_name_several_of_its_servers() -> None:
    found = read_url("redis+cluster://:pepper@a.example:6380,b.example,[::1]:6381")

    assert found.hosts == (("a.example", 6380), ("b.example", 6379), ("::1", 6381))
    assert found.kind is DeploymentKind.CLUSTER
    assert read_url("rediss+cluster://a.example").tls


def test_sentinels_have_their_own_login() -> None:
    found = read_url(
        "redis+sentinel://ada:pep%2Fper@a.example,b.example:26380/the-shop/2"
        "?sentinel_username=eve&sentinel_password=sa%26lt+1"
    )

    assert found.kind is DeploymentKind.SENTINEL
    assert found.hosts == (("a.example", 26379), ("b.example", 26380))
    assert (found.primary_name, found.tls) == ("the-shop", False)
    assert found.options == {"username": "ada", "password": "pep/per", "db": 2}
    assert found.sentinel_options == {"username": "eve", "password": "sa&lt+1"}
    assert read_url("redis+sentinel://:pepper@a.example/shop").sentinel_options == {}
    assert read_url("rediss+sentinel://a.example/shop").tls


def test_a_socket_file_has_no_server() -> None:
    found = read_url("unix://ada:pepper@/run/redis%20here.sock")

    assert found.hosts == ()
    assert found.options == {
        "username": "ada",
        "password": "pepper",
        "path": "/run/redis here.sock",
    }


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://h/hushed", "must begin with redis://"),
        ("redis+other://hushed", "must begin with redis://"),
        ("unix+sentinel://hushed", "must begin with redis://"),
        ("redis+sentinel://hushed", "names no primary"),
        ("redis+sentinel://h/name/hushed", "a database that is no number"),
        ("redis+sentinel://h/name?hushed=1", "takes after '?' only sentinel_username"),
        ("redis+sentinel://h/name?sentinel_username=hushed", "without sentinel_password"),
        ("redis://h:99999", "a port that is no number"),
        ("redis://:hus/hed@h", "a port that is no number"),
        ("redis://:hus#hed@h", "has a '#'"),
        ("redis://:hus@hed@h", "cannot be separated"),
        ("redis://u:hus:hed@h", "cannot be separated"),
        ("redis://:hushed\u2100@h", "cannot be read"),
        ("redis://hushed@h", "names a user without a password"),
        ("redis://h/hushed", "a database that is no number"),
        ("redis://h,hushed", "only redis+cluster:// and redis+sentinel:// take more than one"),
        ("redis+cluster://h/1", "a cluster has only database 0"),
        ("redis://h?hushed=1", "takes no parameters after '?'"),
        ("rediss://h?hushed=1", "takes after '?' only ssl_ca_certs"),
        ("rediss://h?ssl_ca_certs=/hushed", "cannot be used for TLS (No such file"),
        (f"rediss://h?ssl_ca_certs={THIS_FILE}", "without a certificate or without its key"),
        (f"rediss://h?ssl_keyfile={THIS_FILE}", "ssl_keyfile without ssl_certfile"),
        ("unix://", "names no socket"),
    ],
)
def test_a_wrong_url_is_refused_without_showing_it(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z].*") as refused:
        read_url(url)

    assert message in str(refused.value)
    assert "hus" not in str(refused.value)
