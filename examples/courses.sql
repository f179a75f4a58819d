-- A rule that no aggregate owns: a course has seats, a student may take so many courses.
--
-- Events with tags, a decision model in plain SQL, a command that appends on a
-- condition.  docs/consistency.md explains it.  Run it once in a database with
-- the extension: psql -f examples/courses.sql mydatabase

CREATE SCHEMA school;

SELECT dugong.create_aggregate_type('Course');
SELECT dugong.create_aggregate_type('Enrolment');

-- By what the events are found: a course, a student, or both.
SELECT dugong.declare_tags('Course', 'CourseOffered', '{"course": "course"}');
SELECT dugong.declare_tags('Course', 'SeatsChanged', '{"course": "course"}');
SELECT dugong.declare_tags('Enrolment', 'StudentEnrolled', '{"course": "course", "student": "student"}');
SELECT dugong.declare_tags('Enrolment', 'StudentLeft', '{"course": "course", "student": "student"}');

CREATE FUNCTION school.offer_course(course uuid, seats int) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT dugong.append_event('Course', course, 'CourseOffered', jsonb_build_object('course', course, 'seats', seats), 0);
END;

CREATE FUNCTION school.change_seats(course uuid, seats int) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT dugong.append_event('Course', course, 'SeatsChanged', jsonb_build_object('course', course, 'seats', seats));
END;

-- The events that decide whether a student may take a seat: those of the course, and his enrolments.
CREATE FUNCTION school.of_enrolment(course uuid, student uuid) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN jsonb_build_array(
    jsonb_build_object('types', '["CourseOffered", "SeatsChanged", "StudentEnrolled", "StudentLeft"]'::jsonb,
                       'tags', jsonb_build_object('course', course)),
    jsonb_build_object('types', '["StudentEnrolled", "StudentLeft"]'::jsonb,
                       'tags', jsonb_build_object('student', student)));

-- What the events say, and up to where they were read.
CREATE TYPE school.decision AS (seats int, taken int, courses int, is_enrolled boolean, read_to bigint);

CREATE FUNCTION school.decide(course uuid, student uuid) RETURNS school.decision
LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT (array_agg((e.payload ->> 'seats')::int ORDER BY e.position DESC) FILTER (WHERE e.payload ? 'seats'))[1],
           COALESCE(sum(e.change) FILTER (WHERE e.course = decide.course), 0)::int,
           COALESCE(sum(e.change) FILTER (WHERE e.student = decide.student), 0)::int,
           COALESCE(sum(e.change) FILTER (WHERE e.course = decide.course AND e.student = decide.student), 0) > 0,
           max(e.position)
    FROM (SELECT m.position, m.payload, (m.payload ->> 'course')::uuid AS course, (m.payload ->> 'student')::uuid AS student,
                 CASE m.type WHEN 'StudentEnrolled' THEN 1 WHEN 'StudentLeft' THEN -1 ELSE 0 END AS change
          FROM dugong.read_events_matching(school.of_enrolment(course, student)) m) e;
END;

-- A command: read, decide, append if nothing has come since; else once more.
CREATE FUNCTION school.enrol(course uuid, student uuid, max_courses int DEFAULT 3, attempts int DEFAULT 10) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now school.decision;
BEGIN
    FOR attempt IN 1 .. attempts LOOP
        now := school.decide(course, student);
        IF now.seats IS NULL THEN
            RAISE EXCEPTION 'course % is not offered', course USING ERRCODE = 'UG002';
        ELSIF now.is_enrolled THEN
            RAISE EXCEPTION 'student % has a seat in course %', student, course USING ERRCODE = 'UG004';
        ELSIF now.taken >= now.seats THEN
            RAISE EXCEPTION 'course % is full', course USING ERRCODE = 'UG004';
        ELSIF now.courses >= max_courses THEN
            RAISE EXCEPTION 'student % has % courses', student, now.courses USING ERRCODE = 'UG004';
        END IF;
        BEGIN
            PERFORM dugong.append_event('Enrolment', gen_random_uuid(), 'StudentEnrolled',
                jsonb_build_object('course', course, 'student', student),
                if_none_match => school.of_enrolment(course, student), after_position => now.read_to);
            RETURN;
        EXCEPTION WHEN SQLSTATE 'UG001' THEN
            IF attempt = attempts THEN
                RAISE;
            END IF;
        END;
    END LOOP;
END $$;

CREATE FUNCTION school.leave(course uuid, student uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now school.decision := school.decide(course, student);
BEGIN
    IF NOT now.is_enrolled THEN
        RAISE EXCEPTION 'student % has no seat in course %', student, course USING ERRCODE = 'UG004';
    END IF;
    PERFORM dugong.append_event('Enrolment', gen_random_uuid(), 'StudentLeft',
        jsonb_build_object('course', course, 'student', student),
        if_none_match => school.of_enrolment(course, student), after_position => now.read_to);
END $$;
