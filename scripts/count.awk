# Counts the tests in a LastTest.log of ctest: "passed failed skipped". A program that reports no
# counts of its own (or died before it could) counts as one test.
function close_test() {
    if (!open)
        return
    if (!reported || (!ok && bad == 0)) {
        if (ok)
            good++
        else
            bad++
    }
    total_good += good
    total_bad += bad
    total_skipped += skipped
    open = 0
}

/^[0-9]+\/[0-9]+ Testing: / {
    close_test()
    open = 1
    reported = ok = good = bad = skipped = 0
}

/Synthesis: Tested: / { # Criterion
    reported = 1
    good += number_after("Passing: ")
    bad += number_after("Tested: ") - number_after("Passing: ")
}

/^Ran [0-9]+ tests? in / { # unittest
    reported = 1
    ran = $2
}

/^(OK|FAILED)( \(.*\))?$/ {
    missed = number_after("failures=") + number_after("errors=")
    skipped += number_after("skipped=")
    bad += missed
    good += ran - missed - number_after("skipped=")
}

/^Test Passed\./ { ok = 1 }

END {
    close_test()
    print total_good + 0, total_bad + 0, total_skipped + 0
}

function number_after(name,    at) {
    at = index($0, name)
    return at > 0 ? substr($0, at + length(name)) + 0 : 0
}
