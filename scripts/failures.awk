# What the tests that failed have said, of a LastTest.log of ctest.
function close_test() {
    if (open && !ok)
        printf "\n-- failed: %s\n%s", name, text
}

/^[0-9]+\/[0-9]+ Testing: / {
    close_test()
    open = 1
    ok = 0
    text = ""
    name = $3
}

/^Test Passed\./ { ok = 1 }

{ text = text $0 "\n" }

END { close_test() }
