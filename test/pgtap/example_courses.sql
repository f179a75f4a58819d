-- The example courses: seats of a course, courses of a student.
BEGIN;
SELECT no_plan();
\ir helpers.psql
\ir ../../examples/courses.sql
SELECT school.offer_course(pg_temp.id('c', n), 2) FROM generate_series(1, 4) n;
SELECT lives_ok($$ SELECT school.enrol(pg_temp.id('c'), pg_temp.id('a')) $$, 'a seat');
SELECT is(pg_temp.answer($$ SELECT school.enrol(pg_temp.id('c'), pg_temp.id('a')) $$), 'UG004', 'not twice');
SELECT lives_ok($$ SELECT school.enrol(pg_temp.id('c'), pg_temp.id('b')) $$, 'another');
SELECT is(pg_temp.answer($$ SELECT school.enrol(pg_temp.id('c'), pg_temp.id('d')) $$), 'UG004', 'the course is full');
SELECT is(pg_temp.answer($$ SELECT school.enrol(pg_temp.id('c', 9), pg_temp.id('d')) $$), 'UG002', 'no such course');
SELECT school.enrol(pg_temp.id('c', n), pg_temp.id('a')) FROM generate_series(2, 3) n;
SELECT is(school.decide(pg_temp.id('c', 4), pg_temp.id('a')), (SELECT (2, 0, 3, false, max(position))::school.decision FROM dugong.domain_events WHERE type = 'StudentEnrolled'), 'what is decided on');
SELECT is(pg_temp.answer($$ SELECT school.enrol(pg_temp.id('c', 4), pg_temp.id('a')) $$), 'UG004', 'three courses are enough');
SELECT lives_ok($$ SELECT school.leave(pg_temp.id('c'), pg_temp.id('a')) $$, 'one left');
SELECT is(pg_temp.answer($$ SELECT school.leave(pg_temp.id('c'), pg_temp.id('a')) $$), 'UG004', 'once');
SELECT lives_ok($$ SELECT school.enrol(pg_temp.id('c', 4), pg_temp.id('a')) $$, 'so another can be taken');
SELECT lives_ok($$ SELECT school.enrol(pg_temp.id('c'), pg_temp.id('d')) $$, 'and the seat');
SELECT school.change_seats(pg_temp.id('c'), 3);
SELECT lives_ok($$ SELECT school.enrol(pg_temp.id('c'), pg_temp.id('e')) $$, 'more seats');
SELECT * FROM finish();
ROLLBACK;
