"""Settings of nbgrader for the assignments; run `nbgrader` in this folder (see *In a classroom*)."""

c = get_config()  # noqa: F821 (nbgrader gives it)

c.CourseDirectory.course_id = "splines"
c.ClearSolutions.code_stub = {
    "python": 'raise NotImplementedError("write this function, then run its checks")'
}
c.ClearSolutions.text_stub = "*Your answer.*"
c.Execute.timeout = 30  # seconds for one cell: an endless loop costs its own points, not the class's
c.Execute.interrupt_on_timeout = True
c.Execute.extra_arguments = ["--IPKernelApp.log_level=ERROR", "--HistoryManager.hist_file=:memory:"]
